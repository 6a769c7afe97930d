"""Folders of images: one folder for each class, or all images without classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.images import Shape, class_folders, image_files, read_image, resize

__all__ = ["ImageFiles", "image_folder"]


class ImageFiles:
    """Image files with their classes, as `snowmelt.data.images.Images` says.

    Args:
        place: the folder that they lie in.
        paths: the files.
        labels: the class of each; 0 where there are no classes.
        classes: their names; empty where there are none.
        shape: what the images are turned into.
    """

    def __init__(
        self, place: str, paths: Sequence[Path], labels: Sequence[int], classes: Sequence[str], shape: Shape
    ) -> None:
        self.place, self.paths, self.shape = place, list(paths), shape
        self.labels, self.classes = torch.tensor(labels), list(classes)

    @property
    def empty(self) -> list[str]:
        """The names of the classes without images."""
        counts = self.labels.bincount(minlength=len(self.classes)).tolist()
        return [name for name, count in zip(self.classes, counts, strict=False) if not count]

    def renumber(self, classes: Sequence[str]) -> None:
        """Number the classes as in `classes`, which holds all their names."""
        numbers = torch.tensor([list(classes).index(name) for name in self.classes])
        self.labels, self.classes = numbers[self.labels], list(classes)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, numbers: Sequence[int]) -> Tensor:
        return torch.stack([self._decoded(self.paths[number]) for number in numbers])

    def contents(self) -> object:
        """Return the path, the size and the time of the last change of each file."""
        return [_stamp(path) for path in self.paths]

    def _decoded(self, path: Path) -> Tensor:
        return resize(read_image(path, self.shape.channels, background=self.shape.background), self.shape)


def image_folder(path: Path, shape: Shape, *, classes: bool = True) -> ImageFiles:
    """Return the images below `path`; the classes are its folders in natural order.

    Args:
        path: a folder of class folders, or of images.
        shape: what the images are turned into.
        classes: False for all images below the folder, whatever its folders are called. A folder without
            class folders has no classes.

    Raises:
        InputError: there are no images. A file that cannot be decoded raises it when it is read.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: give a folder of images, or of one folder for each class")
    place = str(path.resolve())
    if classes:
        found = class_folders(path)
        if found.files:
            return ImageFiles(place, found.files, found.labels, found.names, shape)
    files = image_files(path, deep=not classes)
    if not files:
        raise InputError(
            f"{path} has no images to train on: give a folder of images, or of one folder for each class"
        )
    return ImageFiles(place if classes else f"{place}/**", files, [0] * len(files), [], shape)


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return str(path.absolute()), found.st_size, found.st_mtime_ns
