"""Read the images of an edit from files, and write them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.images import (
    BACKGROUND,
    Shape,
    check_colour,
    from_uint8,
    read_image,
    resize,
    save_grid,
    save_png,
)
from snowmelt.images import read_mask as mask_pixels

__all__ = ["interleave", "read_images", "read_mask", "write_noise", "write_pictures"]


def read_images(
    paths: Sequence[Path], shape: Sequence[int], *, fit: bool = False, background: str = BACKGROUND
) -> Tensor:
    """Return image files as one tensor (N, C, H, W) in [-1, 1].

    Args:
        paths: files as for `snowmelt.images.read_image`; gray and colour are turned into each other.
        shape: (C, H, W) of the model.
        fit: give images of another size the model's, as training does: resize them until they cover it, and
            cut the middle out.
        background: the colour behind transparent pixels.

    Raises:
        InputError: a file is missing or no image, or has another size.
    """
    channels = shape[0]
    read = partial(read_image, channels=channels, background=check_colour(background))
    return from_uint8(torch.stack([_sized(read(path), path, shape, fit) for path in paths]))


def read_mask(path: Path, shape: Sequence[int], *, fit: bool = False) -> Tensor:
    """Return a mask file as a bool tensor (H, W): True where it is white and opaque.

    Args:
        path: a file as for `snowmelt.images.read_mask`, which says what counts as white.
        shape: (C, H, W) of the model.
        fit: as for `read_images`.

    Raises:
        InputError: the file is missing, no image or of one colour, or has another size than the model's
            images.
    """
    known: Tensor = _sized(mask_pixels(path), path, shape, fit)[0] > 127
    if known.all() or not known.any():
        raise InputError(
            f"{path} is of one colour, so that all of the image would be kept, or nothing: white is kept, "
            "and what is black or transparent is painted"
        )
    return known


def _sized(pixels: Tensor, path: Path, shape: Sequence[int], fit: bool) -> Tensor:
    _, height, width = shape
    if fit:
        return resize(pixels, Shape((height, width)))
    if pixels.shape[1:] != (height, width):
        raise InputError(
            f"{path} is {pixels.shape[2]} x {pixels.shape[1]} pixels, the model's images {width} x {height}: "
            "resize it, or let --fit do so"
        )
    return pixels


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
