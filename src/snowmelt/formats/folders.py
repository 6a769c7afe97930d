"""Folders of image files: which of them are images, of which classes, and of which parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.formats.classes import renumber_classes
from snowmelt.formats.lists import open_list
from snowmelt.formats.overview import LABELS_NAME
from snowmelt.formats.png import ImageFiles
from snowmelt.images import Shape, class_folders, image_files, natural_key, subfolders
from snowmelt.text import some

__all__ = [
    "open_class_folders",
    "open_flat_folder",
    "open_metadata",
    "open_parted_folders",
    "open_tree",
]

# What folders beside each other are called that hold parts of one data set, and no classes
PARTS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})
METADATA = ("metadata.jsonl", "metadata.csv")  # as Hugging Face's imagefolder calls them


def open_class_folders(folder: Path, shape: Shape) -> ImageFiles | None:
    """Return the images of class folders, with the classes in natural order; None without any.

    Images count however deep they lie. A class folder without images keeps its number.
    """
    found = class_folders(folder)
    return ImageFiles(folder, found.files, shape, found.labels, found.names) if found.files else None


def open_flat_folder(folder: Path, shape: Shape) -> ImageFiles | None:
    """Return the images that lie in a folder, or None if it has none.

    The ``labels.csv`` that ``snowmelt generate`` writes says which files are images, their order and their
    classes. Without it, all image files count, in the natural order of their names.
    """
    files = image_files(folder)
    if not files:
        return None
    table = folder / LABELS_NAME
    return open_list(table, shape) if table.exists() else ImageFiles(folder, files, shape)


def open_tree(folder: Path, shape: Shape) -> ImageFiles | None:
    """Return the images in a folder and in all folders below it, without classes; None if there is none."""
    files = image_files(folder, deep=True)
    if not files:
        return None
    source = ImageFiles(folder, files, shape)
    source.place += "/**"  # so that neither this nor the one with classes takes the place of the other
    return source


def open_metadata(folder: Path, shape: Shape) -> ImageFiles | None:
    """Return the images that the ``metadata.csv`` or ``.jsonl`` of an imagefolder lists.

    None if there is no such list, or if it states neither classes nor parts, as one of captions.
    """
    for table in (folder / name for name in METADATA):
        if table.is_file():
            source = open_list(table, shape)
            return source if source.labels is not None or source.parts is not None else None
    return None


def open_parted_folders(
    folder: Path, shape: Shape, readers: Sequence[Callable[[Path, Shape], ImageFiles | None]]
) -> ImageFiles | None:
    """Return the images of ``train``, ``test`` and others of `PARTS`; None if folders are called otherwise.

    Args:
        folder: all its folders are parts, and one of several is ``train``.
        shape: what the images are turned into.
        readers: the first one that finds its files reads a part.
    """
    folders = subfolders(folder)
    names = {each.name.lower() for each in folders}
    if len(names) < 2 or "train" not in names or names - PARTS:
        return None
    found = {each.name: _first_of(readers, each, shape) for each in folders}
    parts = {name: source for name, source in found.items() if source is not None}
    return _joined(folder, parts, shape) if parts else None


def _first_of(
    readers: Sequence[Callable[[Path, Shape], ImageFiles | None]], folder: Path, shape: Shape
) -> ImageFiles | None:
    """Return what the first reader returns that finds its files."""
    return next((source for reader in readers if (source := reader(folder, shape)) is not None), None)


def _joined(folder: Path, parts: dict[str, ImageFiles], shape: Shape) -> ImageFiles:
    """Return the images of several folders as one source, their classes numbered alike."""
    labelled = {name for name, source in parts.items() if source.labels is not None}
    if labelled and labelled != parts.keys():
        without = [name for name in parts if name not in labelled]
        raise InputError(
            f"{folder} has classes in {some(sorted(labelled))}, but none in {some(without)}: give them to "
            "all parts, or name one part's folder alone"
        )
    named = {name for source in parts.values() for name in source.class_names or ()}
    names = sorted(named, key=natural_key) or None
    alike = [renumber_classes(source, names) for source in parts.values()]
    labels = [label for source in alike if source.labels is not None for label in source.labels.tolist()]
    files = [path for source in alike for path in source.paths]
    belong = [name for name, source in parts.items() for _ in range(len(source))]
    return ImageFiles(folder, files, shape, labels or None, names, belong)
