"""Images to read, found by a name or a path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.formats.digits import digits
from snowmelt.formats.division import Division, is_division
from snowmelt.formats.edm import open_edm
from snowmelt.formats.file_source import FileSource
from snowmelt.formats.folders import (
    open_class_folders,
    open_flat_folder,
    open_metadata,
    open_parted_folders,
    open_tree,
)
from snowmelt.formats.lists import LISTS, open_list
from snowmelt.formats.npz import open_npz
from snowmelt.formats.parquet import open_parquet
from snowmelt.formats.source import ImageSource
from snowmelt.formats.torchvision_sets import cifar10, fashion_mnist, mnist
from snowmelt.formats.webdataset import open_webdataset
from snowmelt.images import BACKGROUND, CHANNELS, Shape, check_colour, image_sides

__all__ = ["DATASETS", "READERS", "open_images"]

Reader = Callable[[Path, Shape], FileSource | None]

DATASETS: dict[str, Callable[[str | None, Shape], ImageSource]] = {
    "digits": digits,
    "MNIST": mnist,
    "FashionMNIST": fashion_mnist,
    "CIFAR10": cifar10,
}
IN_A_PART = (open_metadata, open_class_folders, open_flat_folder)
# The first one that finds its files in a folder reads them
READERS: dict[str, Reader] = {
    "parquet": open_parquet,
    "webdataset": open_webdataset,
    "edm": open_edm,
    "metadata": open_metadata,
    "parted_folders": partial(open_parted_folders, readers=IN_A_PART),
    "class_folders": open_class_folders,
    "png": open_flat_folder,
    "npz": open_npz,
}
# A folder without classes holds images at any depth
WITHOUT_CLASSES: dict[str, Reader] = {
    **READERS,
    "parted_folders": partial(open_parted_folders, readers=(open_tree,)),
    "class_folders": open_tree,
}
FILES: dict[str, Reader] = {
    ".parquet": open_parquet,
    ".tar": open_webdataset,
    ".npz": open_npz,
    **dict.fromkeys(LISTS, open_list),
}


def open_images(
    path: str | Path,
    *,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    background: str = BACKGROUND,
    classes: bool = True,
) -> ImageSource:
    """Open images in a layout that is recognised by looking.

    - a name in `DATASETS`, such as ``digits:train``;
    - a list of image files, CSV, TSV, JSON or JSONL: ``file``, ``label`` or ``class``, ``split``;
    - the ``split.json`` of a training run;
    - a Parquet file or a folder of them (columns ``image`` with ``bytes``, and ``label``);
    - a webdataset tar file or a folder of them (images, ``.cls``);
    - a folder with the ``dataset.json`` of NVIDIA's dataset_tool, or that file;
    - a folder with the ``metadata.csv`` or ``metadata.jsonl`` of an imagefolder;
    - a folder of ``train``, ``test`` and the like, each a folder as below;
    - a folder with one folder of images a class, numbered in natural order (2 before 10);
    - a folder of images, with the ``labels.csv`` of ``snowmelt generate`` if it is there;
    - an ``.npz`` file with uint8 ``arr_0`` (N, H, W, C), and perhaps labels in ``arr_1`` or ``labels``, or a
      folder with one.

    What has parts, such as a list with the column ``split``, is read whole, or a part of it as
    ``PATH:PART``: ``list.csv:test``.

    Args:
        path: the name, file or folder.
        image_size: side, or (H, W): images are resized until they cover it, and the middle is cut out. None
            takes images as they are, which must be of one size.
        channels: 1, 3, or 4 with alpha; None decides by the first image, and lays it on the background.
        background: the colour behind transparent pixels.
        classes: False leaves the labels out, and takes the images of a folder at any depth.

    Raises:
        InputError: there are no images in a known layout, or they cannot be read.

    >>> source = open_images("digits:test")
    >>> len(source), source.class_names[:2], source.take([0, 300]).shape
    (360, ['0', '1'], torch.Size([2, 1, 8, 8]))
    """
    if channels not in (None, *CHANNELS):
        raise ValueError(f"channels must be 1, 3, 4 or None, got {channels}")
    size = image_sides(image_size) if image_size is not None else None
    shape = Shape(size, channels, check_colour(background))
    known, _, part = str(path).partition(":")
    whole, _, piece = str(path).rpartition(":")
    if Path(path).exists():
        source = _found(Path(path), shape, classes)
    elif known in DATASETS:
        source = DATASETS[known](part or None, shape)
    elif whole and Path(whole).exists():
        source = _found(Path(whole), shape, classes).part(piece)
    else:
        raise InputError(
            f"{path} is neither a file nor a folder, nor one of {', '.join(DATASETS)}: give one of them"
        )
    return source if classes else _without_classes(source)


def _found(path: Path, shape: Shape, classes: bool) -> ImageSource:
    """Return what a file or folder holds."""
    if path.is_file() and (listed := open_edm(path, shape)) is not None:
        return listed
    if is_division(path):
        division = Division.read(path)
        opened = open_images(
            division.data,
            image_size=shape.size,
            channels=shape.channels,
            background=shape.background,
            classes=division.classes,
        )
        return division.of(opened, str(path))
    readers = (READERS if classes else WITHOUT_CLASSES) if path.is_dir() else _reader_of(path)
    for reader in readers.values():
        if (source := reader(path, shape)) is not None:
            return source
    raise InputError(
        f"{path} holds no images in a known layout: give a folder of images or of class folders, a list "
        f"({', '.join(LISTS)}), or .npz, .tar or .parquet files"
    )


def _reader_of(file: Path) -> dict[str, Reader]:
    suffix = file.suffix.lower()
    return {suffix: FILES[suffix]} if suffix in FILES else {}


def _without_classes(source: ImageSource) -> ImageSource:
    plain = copy(source)
    plain.labels = plain.class_names = None
    return plain
