"""Folders of images, one folder a class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder

from snowmelt.data.errors import DataError
from snowmelt.data.transforms import prepare

__all__ = ["image_folder"]


def image_folder(path: Path, image_size: int | tuple[int, int], in_channels: int) -> ImageFolder:
    """Return the images below `path`; classes are its folders in sorted order.

    Raises:
        DataError: there is no class folder, or one without images. A file that cannot be decoded raises it
            when it is read, with its name.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder: give a folder that holds one folder of images a class")
    try:
        return ImageFolder(str(path), transform=prepare(image_size, in_channels), loader=_open)
    except FileNotFoundError as error:
        raise DataError(
            f"{path} has no images to train on: it needs one folder a class, each with images in it ({error})"
        ) from error


def _open(path: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            upright.load()
    except Exception as error:  # a damaged file may raise anything, depending on its format
        raise DataError(f"{path} cannot be read as an image ({error}): repair or remove it") from error
    if upright.mode.startswith(("I", "F")):  # Pillow would cut them off at 255
        raise DataError(f"{path} has more than 8 bits a channel (mode {upright.mode}): convert it to 8 bits")
    return upright
