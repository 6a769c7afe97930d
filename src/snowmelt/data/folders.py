"""Folders of images, one folder for each class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torchvision.datasets import ImageFolder

from snowmelt.data.transforms import prepare
from snowmelt.errors import InputError
from snowmelt.images import read_image

__all__ = ["image_folder"]


def image_folder(path: Path, image_size: int | tuple[int, int], in_channels: int) -> ImageFolder:
    """Return the images below `path`; classes are its folders in sorted order.

    Raises:
        InputError: there is no class folder, or one has no images. A file that cannot be decoded raises it
            when it is read.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: give a folder that holds one folder of images a class")
    read = partial(read_image, channels=in_channels)
    try:
        return ImageFolder(str(path), transform=prepare(image_size, in_channels), loader=read)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} has no images to train on: it needs one folder a class, each with images in it ({error})"
        ) from error
