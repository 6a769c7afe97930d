"""What training makes of a source: one part, in classes with names, each of which has images."""

from __future__ import annotations

from copy import copy
from pathlib import Path

import torch

from snowmelt.errors import InputError
from snowmelt.formats import Division, ImageSource, Shares, renumber_classes
from snowmelt.formats.png import ImageFiles
from snowmelt.text import some

__all__ = ["check_no_empty_class", "divided", "labelled", "of_classes", "unparted"]


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
