"""The division of images into parts to train, to validate and to test, which a file keeps."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.formats.source import ImageSource
from snowmelt.text import counted, listed, some

__all__ = ["SPLIT_NAME", "Division", "Shares", "is_division"]

SPLIT_NAME = "split.json"
ROUNDING = 1e-6  # by which shares may miss 1


@dataclass(frozen=True)
class Shares:
    """How many of the images each part gets, and the seed that decides which.

    Raises:
        InputError: the shares are no shares, or do not add up to 1.
    """

    train: float = 0.8
    val: float = 0.1
    test: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        shares = self.by_part()
        stated = ", ".join(f"{part} {share:g}" for part, share in shares.items())
        if min(shares.values()) < 0 or not self.train or abs(sum(shares.values()) - 1) > ROUNDING:
            raise InputError(
                f"the shares of data.split lie in [0, 1], train above 0, and add up to 1; got {stated}"
            )

    def by_part(self) -> dict[str, float]:
        """Return the share of each part."""
        return {"train": self.train, "val": self.val, "test": self.test}


@dataclass(frozen=True)
class Division:
    """Which image of a data set belongs to which part.

    Attributes:
        data: the path or the name of the images, as `open_images` takes it.
        classes: whether it was opened with classes.
        shares: how it came about.
        parts: the part of each image, by its name within the data set.
        digests: the SHA-256 of each image, by its name; empty in files from before they were kept.
    """

    data: str
    classes: bool
    shares: Shares
    parts: Mapping[str, str]
    digests: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, source: ImageSource, data: str | Path, shares: Shares, *, classes: bool = True) -> Division:
        """Divide images, each class in the same shares.

        What decides is the contents and the seed, not a file's name, place or format: equal images always
        come into one part. The first image of each class comes into ``train``.

        Args:
            source: all images.
            data: what opens them again.
            shares: of the parts.
            classes: False if the source was opened without.

        Raises:
            InputError: there are too few images for the parts.
        """
        parts = _divided(source, shares)
        for part, share in shares.by_part().items():
            if share and part not in parts:
                raise InputError(
                    f"{source.name} has {counted(len(source), 'image')}, too few for {share:g} of them for "
                    f"{part}: give more images, or set data.split.{part} to 0 and the others to add up to 1"
                )
        return cls.keeping(source, data, shares, parts, classes=classes)

    @classmethod
    def keeping(
        cls,
        source: ImageSource,
        data: str | Path,
        shares: Shares,
        parts: Sequence[str | None],
        *,
        classes: bool = True,
    ) -> Division:
        """Return the division whose parts are known already, one for each image; None is no part.

        The other arguments are those of `make`.
        """
        items = source.items()
        named = {item: part for item, part in zip(items, parts, strict=True) if part is not None}
        digests = dict(zip(items, source.digests(), strict=True))
        return cls(_absolute(data), classes, shares, named, digests)

    def of(self, source: ImageSource, name: str | None = None) -> ImageSource:
        """Return a source with these parts; a warning says which images are new, changed, or missing.

        An image has the part of its contents, whatever it is called now: none moves to another part because
        files were exchanged or renamed. What has other contents than any image had is in no part.

        Args:
            source: all images of the data set as it is now.
            name: of the new source.
        """
        items = source.items()
        keys = source.digests() if self.digests else items  # an older file knows their names alone
        part_of = {self.digests.get(item, item): part for item, part in self.parts.items()}
        parts = [part_of.get(key) for key in keys]
        strangers = [item for item, part in zip(items, parts, strict=True) if part is None]
        present = {*keys, *(self.digests.get(item, item) for item in strangers)}
        changes = {
            "came, which are in no part": [item for item in strangers if item not in self.parts],
            "changed, which are in no part now": [item for item in strangers if item in self.parts],
            "went": sorted(item for item in self.parts if self.digests.get(item, item) not in present),
        }
        said = [f"{counted(len(own), 'image')} {what} ({some(own)})" for what, own in changes.items() if own]
        if said:
            warnings.warn(
                f"{self.data} has changed since it was divided: {listed(said)}. Images without a part are "
                "left out; to divide anew, train anew in another folder",
                stacklevel=2,
            )
        parted = copy(source)
        parted.name, parted.parts = name or source.name, parts
        return parted

    def write(self, path: Path) -> None:
        """Write the division as JSON, whole or not at all."""
        facts = {"data": self.data, "classes": self.classes, "shares": asdict(self.shares)}
        facts |= {"images": dict(self.parts), "digests": dict(self.digests)}
        with atomic_write(path, "w") as file:
            file.write(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Division:
        """Read what `write` wrote.

        Raises:
            InputError: it cannot be read.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            match facts:
                case {
                    "data": str(data),
                    "classes": bool(classes),
                    "shares": dict(shares),
                    "images": dict(images),
                }:
                    return cls(data, classes, Shares(**shares), images, dict(facts.get("digests", {})))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{path} cannot be read as a division of images: {error}") from error
        raise InputError(
            f"{path} is no division of images as training writes it, nor a list of them, which begins with ["
        )


def is_division(path: Path) -> bool:
    """Return whether a file looks like a division: JSON that is an object, and no list."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"{")


def _divided(source: ImageSource, shares: Shares) -> list[str]:
    """Return the part of each image."""
    labels = source.labels.tolist() if source.labels is not None else [0] * len(source)
    equal: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(source.digests()):
        equal[sha256(f"{shares.seed} {digest}".encode()).hexdigest()].append(index)
    classes: dict[int, list[list[int]]] = defaultdict(list)
    for _, group in sorted(equal.items()):  # by a hash, and so in random order
        classes[min(labels[index] for index in group)].append(group)
    parts = [""] * len(source)
    owed = dict.fromkeys(shares.by_part(), 0.0)
    for _, groups in sorted(classes.items()):
        for number, group in enumerate(groups):
            for part, share in shares.by_part().items():
                owed[part] += share * len(group)
            most = "train" if number == 0 else max(owed, key=lambda part: round(owed[part], 9))
            owed[most] -= len(group)
            for index in group:
                parts[index] = most
    return parts


def _absolute(data: str | Path) -> str:
    """Return a path that is one wherever it is read, and a name as it is."""
    if Path(data).exists():
        return str(Path(data).resolve())
    whole, _, part = str(data).rpartition(":")
    return f"{Path(whole).resolve()}:{part}" if whole and Path(whole).exists() else str(data)
