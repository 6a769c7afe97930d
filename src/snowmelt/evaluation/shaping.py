"""Stored images in the shape that is wanted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

__all__ = ["Shape", "shaped"]


class Shape(NamedTuple):
    """What shape images are wanted in.

    Attributes:
        size: (H, W), or None for that of the images.
        channels: 1 or 3, or None for that of the images.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None


def shaped(images: Tensor, shape: Shape) -> Tensor:
    """Return uint8 images (..., C, H, W) resized and cut to a size, in as many channels as wanted.

    As in training, the shorter side is resized, with antialiasing, until the image covers the size, and the
    middle is cut out.

    >>> shaped(torch.zeros(1, 20, 30, dtype=torch.uint8), Shape((8, 8), 3)).shape
    torch.Size([3, 8, 8])
    """
    if shape.size is not None and tuple(images.shape[-2:]) != shape.size:
        images = functional.resize(images, [max(shape.size)], antialias=True)
        images = functional.center_crop(images, list(shape.size))
    if shape.channels == 1 and images.shape[-3] == 3:
        images = _gray(images)
    elif shape.channels == 3 and images.shape[-3] == 1:
        images = images.expand(*images.shape[:-3], 3, -1, -1)
    return images


def _gray(images: Tensor) -> Tensor:
    """Return the luma as Pillow computes it: what is gray stays as it is, to the last bit."""
    red, green, blue = images.int().unbind(dim=-3)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).to(torch.uint8).unsqueeze(-3)
