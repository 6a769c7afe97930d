"""What training makes of images: parts to train and to validate, in classes with names."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch

from snowmelt.errors import InputError
from snowmelt.formats import Division, ImageSource, Shares, open_images, renumber_classes
from snowmelt.formats.png import ImageFiles
from snowmelt.images import CHANNELS, Shape, check_colour, image_sides
from snowmelt.text import some

__all__ = ["TrainingImages", "labelled", "training_shape", "unparted"]


@dataclass(frozen=True)
class TrainingImages:
    """Images as they were opened, in classes with names; without classes, all labels are 0.

    Attributes:
        train: to learn from.
        val: to validate on; None for no validation.
        division: which image belongs to which part; None where they were not divided.
    """

    train: ImageSource
    val: ImageSource | None
    division: Division | None

    @classmethod
    def open(
        cls,
        train_path: str | Path,
        val_path: str | Path | None,
        shape: Shape,
        *,
        classes: bool = True,
        split: Shares | None = None,
        split_file: str | Path | None = None,
        validate: bool = True,
    ) -> Self:
        """Open images in a shape. All else is as for `snowmelt.data.DiffusionDataLoader`.

        Raises:
            InputError: the data is missing or cannot be read, or its parts or classes do not fit.
        """
        if split is not None and val_path is not None:
            raise InputError(f"{train_path} is to be divided, and {val_path} given: leave one of them out")
        open_like = partial(
            open_images, image_size=shape.size, channels=shape.channels, background=shape.background
        )
        train = unparted(open_like(train_path, classes=classes), train_path)
        division, val = None, None
        if split is not None:
            division = divided(train, train_path, split, split_file, classes)
            whole = division.of(train)
            train = whole.part("train")
            val = labelled(whole.part("val")) if validate and split.val else None
        check_no_empty_class(train, train_path)
        train = labelled(train)
        if validate and val_path is not None:
            names = train.class_names or []
            val = unparted(open_like(val_path, classes=bool(names)), val_path)
            val = of_classes(labelled(val), val_path, names, train_path)
        return cls(train, val, division)

    def parts(self) -> dict[str, ImageSource]:
        """Return all parts: ``train``, ``val``, and those that training leaves alone, such as ``test``."""
        found = {"train": self.train, **({"val": self.val} if self.val is not None else {})}
        if self.train.whole is None:
            return found
        places, names = {source.place for source in found.values()}, self.train.class_names or []
        for name in self.train.whole.part_names():
            part = self.train.whole.part(name)
            if part.place not in places:
                part = of_classes(labelled(part), part.name, names, self.train.name)
                found[part.name if name in found else name] = part
        return found


def training_shape(image_size: int | Sequence[int], in_channels: int, background: str) -> Shape:
    """Return the shape of the images, all of whose numbers are stated.

    Raises:
        InputError: it is none.
    """
    if in_channels not in CHANNELS:
        raise InputError(
            f"in_channels must be 1 (gray), 3 (colour) or 4 (colour with alpha) for image data, got "
            f"{in_channels}"
        )
    return Shape(image_sides(image_size), in_channels, check_colour(background))


def divided(
    whole: ImageSource, path: str | Path, shares: Shares, file: str | Path | None, classes: bool
) -> Division:
    """Return the division in a file if it is there, else a new one."""
    if file is None or not Path(file).exists():
        return Division.make(whole, path, shares, classes=classes)
    found = Division.read(Path(file))
    if found.shares != shares:
        raise InputError(
            f"{file} divides the images of this run otherwise ({found.shares}) than data.split says "
            f"({shares}): state the same to go on, or train anew"
        )
    return found


def unparted(source: ImageSource, path: str | Path) -> ImageSource:
    """Refuse images of several parts, since nobody wants to train on those to test with."""
    if parts := source.part_names():
        raise InputError(
            f"{path} has the parts {some(parts, 5)}: say which one to take, such as {path}:{parts[0]}"
        )
    return source


def labelled(source: ImageSource) -> ImageSource:
    """Return the same images in classes with names; without classes, all labels are 0."""
    ready = copy(source)
    if ready.labels is None:
        ready.labels, ready.class_names = torch.zeros(len(source), dtype=torch.int64), None
    elif ready.class_names is None:
        ready.class_names = [str(label) for label in range(int(ready.labels.max()) + 1)]
    return ready


def check_no_empty_class(source: ImageSource, path: str | Path) -> None:
    """Refuse folders, rows and numbers of classes that have no images; data sets state theirs themselves."""
    if source.labels is None or not (source.class_names is None or isinstance(source, ImageFiles)):
        return
    counts = source.labels.bincount(minlength=len(source.class_names or ())).tolist()
    names = source.class_names or [f"class {label}" for label in range(len(counts))]
    if empty := [name for name, count in zip(names, counts, strict=True) if not count]:
        folder = Path(path).is_dir()
        what = (
            "put images into the folder, or remove it"
            if folder
            else "add some, or number the others 0, 1, ..."
        )
        raise InputError(f"{path} has no images of {some(empty, 5)}: {what}")


def of_classes(
    val: ImageSource, val_path: str | Path, names: list[str], train_path: str | Path
) -> ImageSource:
    """Number the classes of validation images as training does; a model without classes takes them all."""
    if not names:
        return val
    if val.class_names is None:
        raise InputError(
            f"{val_path} has no class folders, but {train_path} has {some(names, 5)}: the classes of "
            "validation images must be known"
        )
    if strangers := [name for name in val.class_names if name not in names]:
        raise InputError(
            f"{val_path} has the classes {some(strangers, 5)}, which {train_path} does not have: they "
            f"must be some of {some(names, 5)}"
        )
    return renumber_classes(val, names)
