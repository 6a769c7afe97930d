"""``sample_0000.png``, ``sample_0001.png``, ...: one image file for each image, all in one folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from torch import Tensor

from snowmelt.formats.file_source import EncodedSource, stamp_of
from snowmelt.formats.writer import Writer, sample_name
from snowmelt.images import Shape

__all__ = ["ImageFiles", "PngWriter"]


class ImageFiles(EncodedSource):
    """Image files, one for each image.

    Args:
        path: the folder that they lie in, or the list that names them.
        files: the files, in order.
        shape: what the images are turned into.
        labels: the class of each; None for no classes.
        class_names: names of the classes 0, 1, ..., or None.
        parts: the part of each, or None.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        shape: Shape,
        labels: Sequence[int | None] | None = None,
        class_names: list[str] | None = None,
        parts: Sequence[str | None] | None = None,
    ) -> None:
        super().__init__(path, files, labels or [None] * len(files), class_names, shape, parts)
        self.root = path if path.is_dir() else path.parent

    @property
    def paths(self) -> list[Path]:
        """The file of each image."""
        return [self.files[row] for row in self.rows]

    def stamp(self) -> object:
        """Return what `stamp_of` says of each file."""
        return [stamp_of(path) for path in self.paths]

    def _stored(self, rows: Sequence[int]) -> Iterator[tuple[str, Path]]:
        return ((str(self.files[row]), self.files[row]) for row in rows)

    def _item(self, row: int) -> str:
        path = self.files[row]
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


class PngWriter(Writer):
    """Writes each image as a PNG file of its own, all in one folder.

    Each file carries its index, seed, class (absent for an unconditional model) and the common metadata as
    text.
    """

    name, source = "png", ImageFiles

    def location(self, index: int) -> str:
        return sample_name(index)

    def _pack(self, file: IO[bytes], indices: Sequence[int], images: Tensor) -> None:
        file.write(self._png(indices[0], images[0]))
