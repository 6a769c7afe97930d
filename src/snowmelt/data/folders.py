"""Folders of images: one folder for each class, or all images without classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from snowmelt.data.transforms import prepare
from snowmelt.errors import InputError
from snowmelt.images import Shape, class_folders, image_files, read_image

__all__ = ["ImageFiles", "image_folder"]


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Image files with their classes.

    Attributes:
        paths: the files.
        targets: the class of each; 0 where there are no classes.
        classes: their names; empty where there are none.
    """

    def __init__(
        self, paths: Sequence[Path], targets: Sequence[int], classes: Sequence[str], shape: Shape
    ) -> None:
        self.paths, self.targets, self.classes = list(paths), list(targets), list(classes)
        self.shape, self.prepare = shape, prepare(shape)

    @property
    def empty(self) -> list[str]:
        """The names of the classes without images."""
        full = set(self.targets)
        return [name for label, name in enumerate(self.classes) if label not in full]

    def renumber(self, classes: Sequence[str]) -> None:
        """Number the classes as in `classes`, which holds all their names."""
        numbers = [list(classes).index(name) for name in self.classes]
        self.targets, self.classes = [numbers[target] for target in self.targets], list(classes)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = read_image(self.paths[index], self.shape.channels, background=self.shape.background)
        return self.prepare(pixels), self.targets[index]


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
    if classes:
        found = class_folders(path)
        if found.files:
            return ImageFiles(found.files, found.labels, found.names, shape)
    files = image_files(path, deep=not classes)
    if not files:
        raise InputError(
            f"{path} has no images to train on: give a folder of images, or of one folder for each class"
        )
    return ImageFiles(files, [0] * len(files), [], shape)
