"""Images in files: what all formats have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.formats.ahead import ahead
from snowmelt.formats.source import ImageSource
from snowmelt.images import Shape, natural_key, read_image, resize
from snowmelt.text import counted

__all__ = [
    "PREPARATION",
    "EncodedSource",
    "FileSource",
    "Stored",
    "class_label",
    "files_named",
    "numbered",
    "reading",
    "stamp_of",
]

Read = TypeVar("Read")
Stored = tuple[str, Any]  # a name for messages, and an image as a format holds it
PREPARATION = 2  # another number wherever the same file becomes other pixels
MOST_CLASSES = 1_000_000  # whatever counts images by class makes a table of this length


class FileSource(ImageSource):
    """Images in files, which are read each time that they are asked for.

    Args:
        path: the file or folder that holds them.
        files: the files.
        labels: the class of each image, or None for an image without one.
        class_names, parts: as for `ImageSource`.
        shape: what the images are turned into.

    Raises:
        InputError: there are no images, only some of them have a class, or a class has no name.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        labels: Sequence[int | None],
        class_names: Sequence[str] | None,
        shape: Shape,
        parts: Sequence[str | None] | None = None,
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
        super().__init__(str(path), len(labels), known or None, class_names, parts)
        self.place = str(path.resolve())
        self.files, self.shape = list(files), shape
        self.rows: Sequence[int] = range(len(labels))  # of those in the files, the images of this source

    @abstractmethod
    def _stored(self, rows: Sequence[int]) -> Iterator[Stored]:
        """Yield images, whose rows ascend, as the files hold them, each with a name for messages."""

    @abstractmethod
    def _decoded(self, name: str, stored: Any) -> Tensor:
        """Return the pixels, uint8 (C, H, W), of what `_stored` yields. Several threads may call it."""

    @abstractmethod
    def _item(self, row: int) -> str:
        """Return what an image is called within its source."""

    def items(self) -> list[str]:
        """Return the file of each image, or its row in a file."""
        return [self._item(row) for row in self.rows]

    def batches(self, batch_size: int, num_workers: int = 0) -> Iterator[Tensor]:
        """Yield all images in order, uint8 (B, C, H, W). The files are read once, from beginning to end."""
        images = self._alike(self.rows, batch_size, num_workers)
        while batch := list(islice(images, batch_size)):
            yield torch.stack(batch)

    def take(self, indices: Sequence[int]) -> Tensor:
        """Return some of the images, in the order of `indices`. Others are not decoded."""
        if not all(0 <= index < len(self) for index in indices):
            raise IndexError(f"{self.name} has the images 0 to {len(self) - 1}, got {list(indices)}")
        decided = self.shape.size is not None and self.shape.channels is not None
        wanted = sorted({*indices} if decided else {0, *indices})  # else the first image decides
        rows = [self.rows[index] for index in wanted]
        found = dict(zip(wanted, self._alike(rows, len(rows)), strict=True))
        return torch.stack([found[index] for index in indices])

    def originals(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Yield some of the images in the size and the channels that their files have."""
        for name, stored in _read(self.name, self._stored([self.rows[index] for index in indices])):
            yield self._decoded(name, stored)

    def stamp(self) -> object:
        """Return what `stamp_of` says of each file, and the rows."""
        return [stamp_of(file) for file in self.files], repr(self.rows)

    def _keep(self, indices: Sequence[int]) -> None:
        self.rows = [self.rows[index] for index in indices]

    def _alike(self, rows: Sequence[int], together: int, num_workers: int = 0) -> Iterator[Tensor]:
        """Yield images in the wanted shape. Where that says nothing, the first one decides."""
        stored = _read(self.name, self._stored(rows))
        pieces = iter(lambda: list(islice(stored, together)), [])
        first: tuple[str, Tensor] | None = None
        for name, image in chain.from_iterable(ahead(self._shaped, pieces, num_workers)):
            first = first or (name, image)
            if len(first[1]) == 3:
                image = resize(image, Shape(channels=3))
            if image.shape != first[1].shape:
                raise InputError(_mismatch(name, image, *first))
            yield image

    def _shaped(self, piece: Sequence[Stored]) -> list[tuple[str, Tensor]]:
        return [(name, resize(self._decoded(name, stored), self.shape)) for name, stored in piece]


class EncodedSource(FileSource):
    """Images as image files, or as the bytes of some, which are decoded as they are read.

    `_stored` yields paths or bytes.
    """

    _digests: list[str] | None = None

    def _decoded(self, name: str, stored: Path | bytes) -> Tensor:
        return read_image(stored, self.shape.channels, name=name, background=self.shape.background)

    def digests(self) -> list[str]:
        """Return the SHA-256 of each image's file, which is read once for it."""
        if self._digests is None:
            stored = _read(self.name, self._stored(self.rows))
            self._digests = [
                sha256(each.read_bytes() if isinstance(each, Path) else each).hexdigest()
                for _, each in stored
            ]
        return self._digests

    def content_hash(self) -> str:
        """Return the SHA-256 of the wanted shape and of the files' bytes, which are read once for it."""
        digest = sha256(str((PREPARATION, *self.shape)).encode())
        for each in self.digests():
            digest.update(bytes.fromhex(each))
        return digest.hexdigest()

    def originals(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Yield some of the images in the size and the channels that their files have."""
        for name, stored in _read(self.name, self._stored([self.rows[index] for index in indices])):
            yield read_image(stored, name=name, background=self.shape.background)

    def _keep(self, indices: Sequence[int]) -> None:
        super()._keep(indices)
        self._digests = [self._digests[index] for index in indices] if self._digests is not None else None


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


def numbered(
    values: Sequence[Any], names: list[str] | None, places: Sequence[str]
) -> tuple[list[int | None], list[str] | None]:
    """Return the class number of each value, and the names of the classes.

    Args:
        values: numbers, or names, which are numbered in natural order (2 before 10); None states none.
        names: of numbers, if they are known.
        places: the file and the row of each, for messages.

    Raises:
        InputError: a value is neither a name nor a number from 0 on.

    >>> numbered(["owl", "crow", "owl"], None, ["row 0", "row 1", "row 2"])
    ([1, 0, 1], ['crow', 'owl'])
    """
    labels = [
        value if isinstance(value, str) else class_label(value, place)
        for value, place in zip(values, places, strict=True)
    ]
    if not any(isinstance(label, str) for label in labels):
        return [label for label in labels if not isinstance(label, str)], names
    texts = [None if label is None else str(label) for label in labels]
    names = sorted({text for text in texts if text is not None}, key=natural_key)
    numbers = {name: number for number, name in enumerate(names)}
    return [None if text is None else numbers[text] for text in texts], names


def stamp_of(path: Path) -> tuple[str, int, int, int, int]:
    """Return the path, the size, the times (mtime, ctime) and the inode of a file.

    Another file in its place can have its size and its mtime, as ``cp -p`` gives them, but not its ctime.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


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
