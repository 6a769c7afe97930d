"""The division of the job's images. Parts that the data has already stay as they are."""

from __future__ import annotations

from snowmelt.config.data import Split
from snowmelt.errors import InputError
from snowmelt.evaluation.uncertainty import GROUPS
from snowmelt.formats import Division, ImageSource, Shares, open_images
from snowmelt.text import counted, listed

__all__ = ["PARTS", "divided"]

PARTS = ("train", "val", "test")


def divided(data: str, split: Split) -> Division:
    """Return which image trains, validates and tests.

    Data with the parts ``train`` and ``test`` keeps them; where it has no ``val``, that is taken from
    ``train``. Other data is divided by `split`, each class in the same shares.

    Raises:
        InputError: there are no classes, other parts, or too few images.

    >>> found = divided("digits:test", Split(train=0.6, val=0.2, test=0.2))
    >>> [list(found.parts.values()).count(part) for part in ("train", "val", "test")]
    [216, 72, 72]
    """
    source = open_images(data)
    _check_classes(source, data)
    shares = Shares(**split.model_dump())
    known = set(source.part_names())
    if not known:
        division = Division.make(source, data, shares)
    elif not {"train", "test"} <= known <= set(PARTS):
        raise InputError(
            f"{data} has the parts {listed(sorted(known))}: take train, test and perhaps val, or give one of "
            f"them as DATA:PART, such as {data}:{sorted(known)[0]}, which is divided"
        )
    else:
        parts = list(source.parts or ())
        if "val" not in known:
            inside = [index for index, part in enumerate(parts) if part == "train"]
            both = shares.train + shares.val
            inner = Shares(shares.train / both, shares.val / both, 0.0, shares.seed)
            trained = source.part("train")
            chosen = Division.make(trained, data, inner).parts
            for index, item in zip(inside, trained.items(), strict=True):
                parts[index] = chosen[item]
        division = Division.keeping(source, data, shares, parts)
    for part in PARTS:
        if (count := list(division.parts.values()).count(part)) < GROUPS:
            raise InputError(
                f"{data} gives {counted(count, 'image')} to {part}, and {GROUPS} are needed: give more "
                f"images, or raise split.{part}"
            )
    return division


def _check_classes(source: ImageSource, data: str) -> None:
    if source.labels is None or len(source.labels.unique()) < 2:
        raise InputError(
            f"{data} has no two classes, and a classifier tells classes apart: make a folder of images for "
            "each class"
        )
