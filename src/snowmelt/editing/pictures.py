"""Read the images of an edit from files, and write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.images import from_uint8, read_image, save_grid, save_png

__all__ = ["interleave", "read_images", "read_mask", "write_noise", "write_pictures"]


def read_images(paths: Sequence[Path], shape: Sequence[int], *, fit: bool = False) -> Tensor:
    """Return image files as one tensor (N, C, H, W) in [-1, 1].

    Args:
        paths: files that Pillow reads, with 8 bits a channel; gray and colour are turned into each other.
        shape: (C, H, W) of the model.
        fit: resize and cut the middle out where the size is another one.

    Raises:
        InputError: a file is missing or no image, or has another size.
    """
    return torch.stack([_read_image(path, shape, fit) for path in paths])


def read_mask(path: Path, shape: Sequence[int], *, fit: bool = False) -> Tensor:
    """Return a mask file as a bool tensor (H, W): True where it is white rather than black.

    Args:
        path: as for `read_images`, and so is `fit`.
        shape: (C, H, W) of the model.

    Raises:
        InputError: the file is missing or no image, or has another size than the model's images.
    """
    return _read_image(path, (1, *shape[1:]), fit)[0] > 0


def _read_image(path: Path, shape: Sequence[int], fit: bool) -> Tensor:
    channels, height, width = shape
    pixels = read_image(path, channels)
    if fit:
        pixels = pil_to_tensor(ImageOps.fit(to_pil_image(pixels), (width, height)))
    if pixels.shape != (channels, height, width):
        raise InputError(
            f"{path} is {pixels.shape[2]} x {pixels.shape[1]} pixels, the model's images {width} x {height}: "
            "resize it, or let --fit do so"
        )
    return from_uint8(pixels)


def interleave(columns: Sequence[Tensor]) -> Tensor:
    """Return columns of N images as N rows, one after the other.

    >>> interleave([torch.tensor([1, 2]), torch.tensor([10, 20])])
    tensor([ 1, 10,  2, 20])
    """
    return torch.stack(list(columns), 1).flatten(0, 1)


def write_pictures(
    images: Tensor, path: Path, *, nrow: int, captions: Sequence[str] | None = None, scale: int | None = None
) -> None:
    """Write one image as it is, or several as one picture, `nrow` to a row; with a `scale` one, too."""
    if len(images) == 1 and scale is None:
        save_png(images[0], path)
    else:
        save_grid(images, path, nrow=nrow, captions=captions, scale=scale)


def write_noise(noise: Tensor, path: Path) -> None:
    """Write noise (N, C, H, W) as a NumPy file, float32."""
    with atomic_write(path) as file:
        np.save(file, noise.cpu().float().numpy())
