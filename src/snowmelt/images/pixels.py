"""Pixels: between bytes and [-1, 1], and from one size to another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.images.reading import BACKGROUND

__all__ = ["Shape", "from_uint8", "image_sides", "resize", "to_uint8"]


class Shape(NamedTuple):
    """What image files are turned into.

    Attributes:
        size: (H, W); None keeps the size of the images.
        channels: 1 or 3; None keeps the channels of the images.
        background: the colour behind transparent pixels.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    background: str = BACKGROUND


def image_sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return (H, W) of a side, or of a pair.

    Raises:
        InputError: it is neither, or less than 1.

    >>> image_sides(32), image_sides([32, 64])
    ((32, 32), (32, 64))
    """
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or min(pair) < 1:
        raise InputError(f"image_size must be a side or (H, W) of at least 1, got {image_size}")
    return pair[0], pair[1]


def to_uint8(images: Tensor) -> Tensor:
    """Return images in [-1, 1] as uint8, rounded. Values outside are clamped.

    Raises:
        InputError: the images hold NaN.

    >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0, 7.0]))
    tensor([  0, 128, 255, 255], dtype=torch.uint8)
    """
    if images.isnan().any():
        raise InputError(
            "the images hold NaN, because the model that made them has diverged: take an earlier checkpoint, "
            "or another plan"
        )
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [-1, 1]: the inverse of `to_uint8`.

    >>> from_uint8(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    """
    return images.float() / 127.5 - 1


def resize(images: Tensor, shape: Shape) -> Tensor:
    """Return images (..., C, H, W), uint8 or float, in another size and with other channels.

    An image is resized, with antialiasing and with its own proportions, until it just covers the size. Then
    the middle is cut out. Colour turns gray in uint8 only.

    >>> resize(torch.zeros(1, 20, 30, dtype=torch.uint8), Shape((8, 8), 3)).shape
    torch.Size([3, 8, 8])
    """
    if shape.size is not None and tuple(images.shape[-2:]) != shape.size:
        from torchvision.transforms.v2 import functional  # takes as long to load as torch

        images = _without_far_ends(images, shape.size)
        images = functional.resize(images, _covering(images.shape[-2:], shape.size), antialias=True)
        images = _middle(images, shape.size)
    if shape.channels == 1 and images.shape[-3] == 3:
        # Luma as Pillow computes it: a gray pixel keeps its value, to the last bit
        red, green, blue = images.int().unbind(dim=-3)
        luma = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
        images = luma.to(torch.uint8).unsqueeze(-3)
    elif shape.channels == 3 and images.shape[-3] == 1:
        images = images.expand(*images.shape[:-3], 3, -1, -1)
    return images


def _without_far_ends(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut off what is far from the middle: a picture of 1 x 60,000 pixels would fill the memory, enlarged."""
    sides = images.shape[-2:]
    scale = max(wanted / side for wanted, side in zip(size, sides, strict=True))
    needed = [math.ceil(wanted / scale) for wanted in size]
    # The parity of a side stays, and so does its middle
    kept = [
        side if side <= 8 * part else 4 * part + side % 2 for side, part in zip(sides, needed, strict=True)
    ]
    return _middle(images, kept)


def _middle(images: Tensor, size: Sequence[int]) -> Tensor:
    """Cut the middle out; of two middles, the one whose index is even."""
    (height, width), (rows, columns) = images.shape[-2:], size
    top, left = round((height - rows) / 2), round((width - columns) / 2)
    return images[..., top : top + rows, left : left + columns]


def _covering(size: tuple[int, ...], wanted: tuple[int, int]) -> list[int]:
    """Return the smallest (H, W) of the proportions of `size` that covers `wanted`.

    >>> _covering((32, 64), (8, 8)), _covering((100, 100), (32, 64))
    ([8, 16], [64, 64])
    """
    (height, width), (rows, columns) = size, wanted
    if rows * width >= columns * height:  # the height needs the larger scale
        return [rows, max(columns, round(width * rows / height))]
    return [max(rows, round(height * columns / width)), columns]
