"""What can be read: a source is a fixed number of images of one shape, in memory or in files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.images import Shape, read_image, resize, to_uint8
from snowmelt.text import counted

__all__ = [
    "EncodedSource",
    "FileSource",
    "ImageSource",
    "TensorSource",
    "class_label",
    "files_named",
    "reading",
]

Read = TypeVar("Read")
MOST_CLASSES = 1_000_000  # whatever counts images by class makes a table of this length


class ImageSource(ABC):
    """A fixed number of images of one shape, in a fixed order.

    Args:
        name: what messages and reports call it.
        count: how many images.
        labels: (count,) integers, or None.
        class_names: names of the classes 0, 1, ..., or None if they are not known.

    Attributes:
        labels: (count,) int64 on the CPU, or None.

    Raises:
        ValueError: the labels are not integers, or not one an image.
    """

    def __init__(
        self,
        name: str,
        count: int,
        labels: Tensor | Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.name, self.count = name, count
        self.labels: Tensor | None = None
        self.class_names = list(class_names) if class_names is not None else None
        if labels is not None:
            given = torch.as_tensor(labels)
            if given.shape != (count,) or given.is_floating_point() or given.dtype == torch.bool:
                raise ValueError(
                    f"labels must be {counted(count, 'integer')}, got {given.dtype} {tuple(given.shape)}"
                )
            self.labels = given.to("cpu", torch.int64)

    def __len__(self) -> int:
        return self.count

    @abstractmethod
    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield all images in order, uint8 (B, C, H, W); the last batch may be smaller.

        Raises:
            InputError: a file cannot be read, or its image differs in size from the first one.
        """

    @abstractmethod
    def take(self, indices: Sequence[int]) -> Tensor:
        """Return some of the images, uint8 (len(indices), C, H, W), in the order of `indices`.

        Raises:
            IndexError: there is no image of that index.
            InputError: as for `batches`.
        """

    def content_hash(self) -> str:
        """Return the SHA-256 of everything that decides the images: of their shape and pixels, here."""
        digest = sha256()
        for number, batch in enumerate(self.batches(256)):
            if number == 0:
                digest.update(f"()images torch.uint8 {(len(self), *batch.shape[1:])}".encode())
            digest.update(batch.contiguous().numpy().data)
        return digest.hexdigest()


class TensorSource(ImageSource):
    """Images in memory.

    Args:
        images: (N, C, H, W), uint8 or floating in [-1, 1], C = 1 or 3.
        labels, class_names, name: as for `ImageSource`.

    Raises:
        ValueError: there are no images, or the shape of images or labels is wrong.

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
        super().__init__(name, len(images), labels, class_names)
        self.images = (images if images.dtype == torch.uint8 else to_uint8(images)).detach().cpu()

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield all images in order, uint8 (B, C, H, W)."""
        return iter(self.images.split(batch_size))

    def take(self, indices: Sequence[int]) -> Tensor:
        """Return some of the images, in the order of `indices`."""
        return self.images[list(indices)]


class FileSource(ImageSource):
    """Images in files, which are read each time that they are asked for.

    Args:
        path: the file or folder that holds them.
        labels: the class of each image, or None for an image without one.
        class_names: as for `ImageSource`.
        shape: what the images are turned into.

    Raises:
        InputError: there are no images, only some of them have a class, or a class has no name.
    """

    def __init__(
        self, path: Path, labels: Sequence[int | None], class_names: Sequence[str] | None, shape: Shape
    ) -> None:
        known = [label for label in labels if label is not None]
        if not labels:
            raise InputError(f"{path} holds no images")
        if known and len(known) < len(labels):
            raise InputError(
                f"{path}: {len(known)} of {len(labels)} images have a class; give one to all or none"
            )
        if known and class_names is not None and max(known) >= len(class_names):
            raise InputError(
                f"{path} has the label {max(known)}, but names {counted(len(class_names), 'class')} (0 to "
                f"{len(class_names) - 1}): correct the labels or the names"
            )
        super().__init__(str(path), len(labels), known or None, class_names)
        self.shape = shape

    @abstractmethod
    def _stored(self, indices: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
        """Yield a name and the pixels, uint8 (C, H, W), of images whose indices ascend."""

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield all images in order, uint8 (B, C, H, W)."""
        images = self._alike(range(len(self)))
        while batch := list(islice(images, batch_size)):
            yield torch.stack(batch)

    def take(self, indices: Sequence[int]) -> Tensor:
        """Return some of the images, in the order of `indices`. Others are not decoded."""
        if not all(0 <= index < len(self) for index in indices):
            raise IndexError(f"{self.name} has the images 0 to {len(self) - 1}, got {list(indices)}")
        wanted = sorted({0, *indices})  # the first image decides size and channels
        found = dict(zip(wanted, self._alike(wanted), strict=True))
        return torch.stack([found[index] for index in indices])

    def _alike(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Yield images in the wanted shape. Where that says nothing, the first one decides."""
        first: tuple[str, Tensor] | None = None
        for name, stored in _read(self.name, self._stored(indices)):
            image = resize(stored, self.shape)
            first = first or (name, image)
            if len(first[1]) == 3:
                image = resize(image, Shape(channels=3))
            if image.shape != first[1].shape:
                raise InputError(_mismatch(name, image, *first))
            yield image


class EncodedSource(FileSource):
    """Images as the bytes of image files, which are decoded as they are read."""

    _hash: str | None = None

    @abstractmethod
    def _files(self, indices: Sequence[int]) -> Iterator[tuple[str, bytes]]:
        """Yield a name and the file's bytes of images whose indices ascend."""

    def _stored(self, indices: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
        for name, data in self._files(indices):
            yield name, read_image(data, name=name, background=self.shape.background)

    def content_hash(self) -> str:
        """Return the SHA-256 of the wanted shape and of the files' bytes, which are read once for it."""
        if self._hash is None:
            digest = sha256(str(tuple(self.shape)).encode())
            for _, data in _read(self.name, self._files(range(len(self)))):
                digest.update(sha256(data).digest())
            self._hash = digest.hexdigest()
        return self._hash


@contextmanager
def reading(path: str | Path, kind: str = "images") -> Iterator[None]:
    """Turn the error of a library that reads a damaged file into an InputError that names the file.

    >>> with reading("x.npz", "an npz file"):
    ...     raise EOFError("no data")
    Traceback (most recent call last):
    snowmelt.errors.InputError: x.npz cannot be read as an npz file: no data
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # every library reports damage in its own ways, and in new ones each year
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} cannot be read as {kind}: {reason}") from error


def files_named(path: Path, suffix: str) -> list[Path]:
    """Return `path` itself, or the files in a folder, that end in `suffix` in upper or lower case.

    Hidden files do not count: systems leave some of the same suffix, such as ``._images.tar``.

    >>> files_named(Path("no_such_folder"), ".tar")
    []
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [f for f in files if f.suffix.lower() == suffix and not f.name.startswith(".") and f.is_file()]


def class_label(value: Any, place: str) -> int | None:
    """Return a class number that a file states, or None where it states none.

    Args:
        value: as the file has it.
        place: the file and the row, for the message.

    Raises:
        InputError: it is something else than an integer from 0 on.

    >>> class_label(3, "x.parquet, row 0")
    3
    >>> class_label(1.7, "x.parquet, row 0")
    Traceback (most recent call last):
    snowmelt.errors.InputError: x.parquet, row 0 has the label 1.7; expected a class number, 0, 1, 2 ...
    """
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_CLASSES:
        return value
    shown = text if len(text := repr(value)) <= 40 else f"{text[:40]}..."
    raise InputError(
        f"{place} has the label {shown}; expected a class number, 0, 1, 2 ... (below {MOST_CLASSES}). Number "
        "the classes, or leave the labels out"
    )


def _read(name: str, stored: Iterator[Read]) -> Iterator[Read]:
    """Yield what is stored; an error of the reading, and of nothing else, names the file."""
    while True:
        with reading(name):
            item = next(stored, None)
        if item is None:
            return
        yield item


def _mismatch(name: str, image: Tensor, first_name: str, first: Tensor) -> str:
    if len(image) != len(first):
        return f"{name} is in colour, but {first_name} is gray: give channels = 3 (or 1) to make all alike"
    sizes = [f"{each.shape[-1]}x{each.shape[-2]}" for each in (image, first)]
    return (
        f"{name} is {sizes[0]} pixels, but {first_name} is {sizes[1]}: give image_size to resize all to one"
    )
