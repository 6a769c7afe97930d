"""``sample_0000.png``, ``sample_0001.png``, ...: one image file for each image, all in one folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from torch import Tensor

from snowmelt.formats.overview import LABELS_NAME, read_labels
from snowmelt.formats.source import EncodedSource
from snowmelt.formats.writer import Writer, sample_name
from snowmelt.images import Shape, image_files

__all__ = ["ImageFiles", "PngWriter", "open_png"]


class ImageFiles(EncodedSource):
    """Image files, one for each image.

    Args:
        path: the folder that they lie in.
        files: the files, in order.
        shape: what the images are turned into.
        labels: the class of each; None for no classes.
        class_names: names of the classes 0, 1, ..., or None.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        shape: Shape,
        labels: Sequence[int | None] | None = None,
        class_names: list[str] | None = None,
    ) -> None:
        super().__init__(path, labels or [None] * len(files), class_names, shape)
        self.paths = list(files)

    def _files(self, indices: Sequence[int]) -> Iterator[tuple[str, bytes]]:
        for index in indices:
            yield str(self.paths[index]), self.paths[index].read_bytes()


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


def open_png(folder: Path, shape: Shape) -> ImageFiles | None:
    """Return the images that lie in a folder, or None if it has none.

    The ``labels.csv`` that ``snowmelt generate`` writes says which files are images, their order and their
    classes. Without it, all image files count, in the natural order of their names.
    """
    files = image_files(folder)
    if not files:
        return None
    if (folder / LABELS_NAME).exists():
        files, labels, names = read_labels(folder)
        return ImageFiles(folder, files, shape, labels, names)
    return ImageFiles(folder, files, shape)
