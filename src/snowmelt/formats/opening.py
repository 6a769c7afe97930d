"""Images to read, found by a name or a path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.formats.class_folders import open_class_folders
from snowmelt.formats.npz import open_npz
from snowmelt.formats.parquet import open_parquet
from snowmelt.formats.png import open_png
from snowmelt.formats.source import FileSource, ImageSource, TensorSource
from snowmelt.formats.webdataset import open_webdataset
from snowmelt.images import BACKGROUND, Shape, check_colour, image_sides

__all__ = ["READERS", "open_images"]

# The first one that finds its files in a folder reads them; those of many images take one such file, too
READERS: dict[str, Callable[[Path, Shape], FileSource | None]] = {
    "parquet": open_parquet,
    "webdataset": open_webdataset,
    "class_folders": open_class_folders,
    "png": open_png,
    "npz": open_npz,
}
# The stored shape of data sets (channels, side), for callers that ask for no other
NATIVE_SHAPES = {"digits": (1, 8), "MNIST": (1, 28), "FashionMNIST": (1, 28), "CIFAR10": (3, 32)}


def open_images(
    path: str | Path,
    *,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    background: str = BACKGROUND,
) -> ImageSource:
    """Open images in a layout that is recognised by looking.

    - a name in `snowmelt.data.DATASETS`, such as ``digits:train``;
    - an ``.npz`` file with uint8 ``arr_0`` (N, H, W, C), and perhaps labels in ``arr_1`` or ``labels``;
    - a Parquet file or a folder of them (columns ``image`` with ``bytes``, and ``label``);
    - a webdataset tar file or a folder of them (images, ``.cls``);
    - a folder with one folder of images a class, numbered in natural order (2 before 10);
    - a folder of images, with the ``labels.csv`` of ``snowmelt generate`` if it is there;
    - a folder with one ``.npz`` file.

    Args:
        path: the name, file or folder.
        image_size: side, or (H, W): images are resized until they cover it, and the middle is cut out, as
            for training. None takes images as they are, which must be of one size.
        channels: 1 or 3; None decides by the first image.
        background: the colour behind transparent pixels.

    Raises:
        InputError: there are no images in a known layout, or they cannot be read.

    >>> source = open_images("digits:test")
    >>> len(source), source.class_names[:2], source.take([0, 300]).shape
    (360, ['0', '1'], torch.Size([2, 1, 8, 8]))
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1, 3 or None, got {channels}")
    size = image_sides(image_size) if image_size is not None else None
    shape = Shape(size, channels, check_colour(background))
    if not Path(path).exists():
        return _data_set(str(path), shape)
    for reader in READERS.values() if Path(path).is_dir() else (open_parquet, open_webdataset, open_npz):
        if (source := reader(Path(path), shape)) is not None:
            return source
    raise InputError(
        f"{path} holds no images in a known layout: give a folder of images or of class folders, or .npz, "
        ".tar or .parquet files"
    )


def _data_set(name: str, shape: Shape) -> TensorSource:
    from snowmelt.data import DATASETS  # only here, so that writing needs no training data

    known, _, part = name.partition(":")
    if known not in DATASETS:
        raise InputError(f"{name} is neither a file nor a folder, nor one of {', '.join(DATASETS)}")
    channels, side = NATIVE_SHAPES[known]
    data = DATASETS[known](part or None, Shape(shape.size or (side, side), shape.channels or channels))
    return TensorSource(data.read(range(len(data))), data.labels, data.classes, name)
