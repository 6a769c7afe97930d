"""Pixels: between bytes and [-1, 1], and from one size to another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import ImageColor
from torch import Tensor
from torch.nn import functional

from snowmelt.errors import InputError
from snowmelt.images.reading import BACKGROUND, hide

__all__ = ["CHANNELS", "Shape", "from_uint8", "image_sides", "resize", "to_uint8"]

CHANNELS = (1, 3, 4)  # of an image: gray, in colour, in colour with alpha


class Shape(NamedTuple):
    """What image files are turned into.

    Attributes:
        size: (H, W); None keeps the size of the images.
        channels: 1, 3, or 4 with alpha; None keeps the channels of the images.
        background: the colour behind transparent pixels; with 4 channels, the one that nobody sees.
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
    the middle is cut out. Colour turns gray, and alpha goes, in uint8 only.

    >>> resize(torch.zeros(1, 20, 30, dtype=torch.uint8), Shape((8, 8), 3)).shape
    torch.Size([3, 8, 8])
    """
    if shape.size is not None and tuple(images.shape[-2:]) != shape.size:
        images = _without_far_ends(images, shape.size)
        wanted = _covering(images.shape[-2:], shape.size)
        with_alpha = images.shape[-3] == 4
        images = _resized_with_alpha(images, wanted, shape) if with_alpha else _resized(images, wanted)
        images = _middle(images, shape.size)
    return _in_channels(images, shape)


def _in_channels(images: Tensor, shape: Shape) -> Tensor:
    """Return images (..., C, H, W) with the channels of a shape."""
    channels = shape.channels or images.shape[-3]
    if images.shape[-3] == 4 and channels != 4:
        colour, alpha = images[..., :3, :, :].int(), images[..., 3:, :, :].int()
        behind = torch.tensor(ImageColor.getrgb(shape.background)[:3]).view(3, 1, 1)
        images = ((colour * alpha + behind * (255 - alpha) + 127) // 255).to(torch.uint8)
    if channels == 1 and images.shape[-3] == 3:
        # Luma as Pillow computes it: a gray pixel keeps its value, to the last bit
        red, green, blue = images.int().unbind(dim=-3)
        luma = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
        images = luma.to(torch.uint8).unsqueeze(-3)
    elif channels in (3, 4) and images.shape[-3] == 1:
        images = images.expand(*images.shape[:-3], 3, -1, -1)
    if channels == 4 and images.shape[-3] == 3:
        opaque = 255 if images.dtype == torch.uint8 else 1
        images = torch.cat([images, torch.full_like(images[..., :1, :, :], opaque)], dim=-3)
    return images


def _resized(images: Tensor, size: list[int]) -> Tensor:
    stacked = images.reshape(-1, *images.shape[-3:])
    resized = functional.interpolate(stacked, size, mode="bilinear", align_corners=False, antialias=True)
    return resized.reshape(*images.shape[:-2], *size)


def _resized_with_alpha(images: Tensor, size: list[int], shape: Shape) -> Tensor:
    """Return images (..., 4, H, W), uint8, resized: a pixel counts as much as it is seen.

    So the colour under transparent pixels never bleeds into those beside them.
    """
    colour, alpha = images[..., :3, :, :].float(), images[..., 3:, :, :].float()
    seen = _resized(torch.cat([colour * alpha, alpha], dim=-3), size)
    colour, alpha = seen[..., :3, :, :], seen[..., 3:, :, :]
    colour = colour / alpha.clamp(min=1e-3)
    resized = torch.cat([colour, alpha], dim=-3).round().clamp(0, 255).to(torch.uint8)
    return hide(resized, shape.background)


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
