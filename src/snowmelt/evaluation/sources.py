"""Images to evaluate, wherever they are: in files, in a data set, or in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from snowmelt.data import DATASETS
from snowmelt.errors import InputError
from snowmelt.evaluation.encoded import FolderSource, ParquetSource, TarSource, holds_images
from snowmelt.digest import content_digest
from snowmelt.evaluation.shaping import Shape, shaped
from snowmelt.images import to_uint8

__all__ = ["ImageSource", "TensorSource", "open_images"]

# What the data sets hold, for whoever does not say what they want
NATIVE_SHAPES = {"digits": (1, 8), "MNIST": (1, 28), "FashionMNIST": (1, 28), "CIFAR10": (3, 32)}
LABEL_ARRAYS = ("arr_1", "labels")


class ImageSource(Protocol):
    """A fixed number of images of one shape, in a fixed order.

    Attributes:
        name: of the images, for messages and reports.
        labels: (N,) int64, or None.
        class_names: names of the classes 0, 1, ..., or None.
    """

    name: str
    labels: Tensor | None
    class_names: list[str] | None

    def __len__(self) -> int: ...

    def content_hash(self) -> str:
        """Return a hash of everything that decides the images, as hexadecimal digits."""

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield all images in order, uint8 (B, C, H, W), B = batch_size but for the last batch.

        Raises:
            InputError: a file cannot be read, or its image has another size than the first.
        """

    def take(self, indices: Sequence[int]) -> Tensor:
        """Return one image or more by their numbers, uint8 (len(indices), C, H, W), in the order asked for."""


class TensorSource:
    """Images in memory.

    Args:
        images: (N, C, H, W), uint8 or floating in [-1, 1], C = 1 or 3.
        labels: (N,) integers, or None.
        class_names: names of the classes 0, 1, ..., or None.
        name: what a person calls them.

    Raises:
        ValueError: there are no images, or they or the labels have another shape.

    >>> source = TensorSource(torch.zeros(5, 1, 8, 8), labels=[0, 0, 1, 1, 1])
    >>> [tuple(batch.shape) for batch in source.batches(2)]
    [(2, 1, 8, 8), (2, 1, 8, 8), (1, 1, 8, 8)]
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "images in memory",
    ) -> None:
        if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
            raise ValueError(f"images must be (N, 1 or 3, H, W) with N >= 1, got {tuple(images.shape)}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"images must be uint8, or floating in [-1, 1], got {images.dtype}")
        self.images = (images if images.dtype == torch.uint8 else to_uint8(images)).detach().cpu()
        self.labels = _labels(labels, len(images))
        self.class_names = list(class_names) if class_names is not None else None
        self.name = name

    def __len__(self) -> int:
        return len(self.images)

    def content_hash(self) -> str:
        """Return the SHA-256 of shape and pixels."""
        return content_digest(self.images)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield all images in order, uint8 (B, C, H, W)."""
        return iter(self.images.split(batch_size))

    def take(self, indices: Sequence[int]) -> Tensor:
        """Return some images, uint8 (len(indices), C, H, W).

        >>> TensorSource(torch.zeros(5, 1, 8, 8)).take([4, 0]).shape
        torch.Size([2, 1, 8, 8])
        """
        return self.images[list(indices)]


def open_images(
    path: str | Path, *, image_size: int | tuple[int, int] | None = None, channels: int | None = None
) -> ImageSource:
    """Open images in a layout that is recognised by looking.

    - a name in `snowmelt.data.DATASETS`, such as ``digits:train``;
    - an ``.npz`` file with uint8 ``arr_0`` (N, H, W, C), and perhaps labels in ``arr_1`` or ``labels``;
    - a folder with Parquet files (columns ``image`` with ``bytes``, and ``label``);
    - a folder with webdataset tar files (images, ``.cls``);
    - a folder with one folder of images a class, as torchvision's ``ImageFolder`` numbers them;
    - a folder of images, with the ``labels.csv`` of ``snowmelt generate`` if it is there;
    - a folder with one ``.npz`` file.

    Args:
        path: the name, file or folder.
        image_size: side, or (H, W): the shorter side is resized with antialiasing and the middle cut out, as
            for training. None takes images as they are, which must be of one size.
        channels: 1 or 3; None decides by the first image.

    Raises:
        InputError: there are no images in a known layout, or they cannot be read.

    >>> source = open_images("digits:test")
    >>> len(source), source.class_names[:2], next(source.batches(4)).shape
    (360, ['0', '1'], torch.Size([4, 1, 8, 8]))
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1, 3 or None, got {channels}")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if size is not None and min(size) < 1:
        raise ValueError(f"image_size must be at least 1, got {image_size}")
    shape = Shape(size, channels)
    dataset, _, part = str(path).partition(":")
    path = Path(path)
    if dataset in DATASETS and not path.exists():
        return _dataset(dataset, part or None, shape)
    if not path.exists():
        raise InputError(f"{path} is neither a file nor a folder, nor one of {', '.join(DATASETS)}")
    if path.is_file():
        if path.suffix != ".npz":
            raise InputError(f"{path} holds no images in a known layout: give an .npz file or a folder")
        return _npz(path, shape)
    return _folder(path, shape)


def _folder(path: Path, shape: Shape) -> ImageSource:
    if tables := sorted(path.glob("*.parquet")):
        return ParquetSource(path, tables, shape)
    if tars := sorted(path.glob("*.tar")):
        return TarSource(path, tars, shape)
    if holds_images(path):
        return FolderSource(path, shape)
    archives = sorted(path.glob("*.npz"))
    if len(archives) == 1:
        return _npz(archives[0], shape)
    raise InputError(
        f"{path} holds no images in a known layout: give a folder of images, of class folders, of .tar or "
        ".parquet files, or an .npz file"
    )


def _dataset(dataset: str, part: str | None, shape: Shape) -> TensorSource:
    channels, side = NATIVE_SHAPES[dataset]
    data = DATASETS[dataset](part, shape.size or (side, side), shape.channels or channels)
    samples = [data[index] for index in range(len(data))]
    images = torch.stack([to_uint8(image) for image, _ in samples])
    name = dataset if part is None else f"{dataset}:{part}"
    return TensorSource(images, [label for _, label in samples], data.classes, name)


def _npz(path: Path, shape: Shape) -> TensorSource:
    try:
        with np.load(path, allow_pickle=False) as file:
            images = file["arr_0"]
            labels = next((file[name] for name in LABEL_ARRAYS if name in file), None)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read as images ({error}): give an npz file with arr_0, uint8 (N, H, W, C)"
        ) from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or len(images) == 0:
        raise InputError(f"{path} has arr_0 {images.dtype} {images.shape}: uint8 (N, H, W, 1 or 3) is needed")
    if labels is not None and (labels.shape != (len(images),) or labels.dtype.kind not in "iu"):
        raise InputError(
            f"{path} has labels {labels.dtype} {labels.shape}: {len(images)} integers are needed, one each"
        )
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    tensor = torch.cat([shaped(batch, shape) for batch in tensor.split(1024)])
    wanted = torch.from_numpy(labels.astype(np.int64)) if labels is not None else None
    return TensorSource(tensor, wanted, name=str(path))


def _labels(labels: Tensor | Sequence[int] | None, count: int) -> Tensor | None:
    if labels is None:
        return None
    tensor = torch.as_tensor(labels)
    if tensor.shape != (count,) or tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise ValueError(f"labels must be {count} integers, got {tensor.dtype} {tuple(tensor.shape)}")
    return tensor.to("cpu", torch.int64)
