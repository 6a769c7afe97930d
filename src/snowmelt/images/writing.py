"""Images to files: PNG, grids and strips."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from os import PathLike

import torch
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor
from torch.nn.functional import pad

from snowmelt.files import atomic_write
from snowmelt.images.pixels import CHANNELS, Shape, resize, to_uint8
from snowmelt.images.reading import to_tensor

__all__ = ["decode_png", "encode_png", "film_strip", "save_grid", "save_png", "tiled", "to_picture"]

READABLE_SIDE = 32  # in grids, smaller images are enlarged
CAPTION_HEIGHT = 12


def save_png(image: Tensor, path: str | PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write one image (C, H, W) in [-1, 1] as PNG, whole or not at all.

    Args:
        image: one, three or four channels.
        path: the file; missing folders are made.
        metadata: texts that the file carries along.
    """
    _write(encode_png(to_uint8(image.detach().cpu()), metadata), path)


def encode_png(image: Tensor, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return one uint8 image (C, H, W) as the bytes of a PNG file.

    Args:
        image: one, three or four channels, on the CPU.
        metadata: texts that the file carries along; a key has 1 to 79 Latin-1 characters.

    >>> image = torch.full((3, 2, 2), 7, dtype=torch.uint8)
    >>> pixels, metadata = decode_png(encode_png(image, {"seed": "5"}))
    >>> torch.equal(pixels, image), metadata
    (True, {'seed': '5'})
    """
    if image.ndim != 3 or image.shape[0] not in CHANNELS:
        raise ValueError(f"an image to save has shape (1, 3 or 4, H, W), got {tuple(image.shape)}")
    if image.dtype != torch.uint8:
        raise ValueError(f"a PNG holds uint8, got {image.dtype}: convert images in [-1, 1] with to_uint8")
    return _encoded(to_picture(image), metadata)


def decode_png(data: bytes) -> tuple[Tensor, dict[str, str]]:
    """Return a PNG file's image, uint8 (C, H, W), and the texts that it carries: `encode_png` undone.

    Raises:
        OSError: the bytes are no PNG file, or not all of one.
    """
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        pixels = to_tensor(picture)
        return pixels, {key: str(text) for key, text in picture.text.items()}  # type: ignore[attr-defined]


def save_grid(
    images: Tensor,
    path: str | PathLike[str],
    *,
    nrow: int = 8,
    captions: Sequence[str] | None = None,
    scale: int | None = None,
) -> None:
    """Write images (N, C, H, W) in [-1, 1] as one picture, `nrow` to a row.

    Args:
        images: one, three or four channels each.
        path: the PNG file.
        nrow: images in a row, >= 1.
        captions: a line of text above each image; where one is wider than its image, all tiles are widened.
        scale: each pixel becomes `scale` by `scale`; None makes small images readable.
    """
    if images.ndim != 4 or images.shape[1] not in CHANNELS or len(images) == 0:
        raise ValueError(f"images for a grid have shape (N, 1, 3 or 4, H, W), got {tuple(images.shape)}")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"captions length ({len(captions)}) must match the images ({len(images)})")
    if nrow < 1:
        raise ValueError(f"nrow must be at least 1, got {nrow}")
    if scale is None:
        scale = -(-READABLE_SIDE // min(images.shape[-2:]))
    elif scale < 1:
        raise ValueError(f"scale must be at least 1, or None to choose one, got {scale}")
    tiles = to_uint8(images.detach().cpu())
    tiles = _in_colour(tiles) if captions is not None else tiles
    tiles = tiles.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    if captions is not None:
        width = max(tiles.shape[-1], *(_text_width(text) for text in captions))
        tiles = pad(tiles, [0, width - tiles.shape[-1]], value=255)
        tiles = torch.stack([_captioned(tile, text) for tile, text in zip(tiles, captions, strict=True)])
    _write(_encoded(to_picture(tiled(tiles, nrow))), path)


def to_picture(image: Tensor) -> Image.Image:
    """Return one uint8 image (1, 3 or 4, H, W) as a Pillow image."""
    return Image.fromarray((image[0] if len(image) == 1 else image.movedim(0, -1)).numpy())


def tiled(images: Tensor, nrow: int) -> Tensor:
    """Return uint8 images (N, 1, 3 or 4, H, W) as one in colour, `nrow` to a row, 2 white pixels around each.

    A single image has no frame.

    >>> tiled(torch.zeros(5, 1, 8, 8, dtype=torch.uint8), nrow=3).shape
    torch.Size([3, 22, 32])
    """
    images = _in_colour(images)
    if len(images) == 1:
        return images[0]
    count, channels, height, width = images.shape
    columns = min(nrow, count)
    rows = -(-count // columns)
    grid = images.new_full((channels, 2 + rows * (height + 2), 2 + columns * (width + 2)), 255)
    for i, image in enumerate(images):
        top, left = 2 + i // columns * (height + 2), 2 + i % columns * (width + 2)
        grid[:, top : top + height, left : left + width] = image
    return grid


def film_strip(states: Sequence[Tensor], path: str | PathLike[str], *, scale: int | None = None) -> None:
    """Write how images came about: one row an image, one column a state.

    Args:
        states: each (N, C, H, W), from noise to image.
        path: the PNG file.
        scale: as in `save_grid`.
    """
    frames = torch.stack([state.detach().cpu() for state in states], dim=1)
    save_grid(frames.flatten(0, 1), path, nrow=len(states), scale=scale)


def _text_width(text: str) -> int:
    return 2 + math.ceil(ImageFont.load_default().getbbox(text)[2])


def _captioned(tile: Tensor, text: str) -> Tensor:
    strip = Image.new("RGB", (tile.shape[-1], CAPTION_HEIGHT), "white")
    ImageDraw.Draw(strip).text((1, 0), text, fill="black")
    return torch.cat([resize(to_tensor(strip), Shape(channels=len(tile))), tile], dim=-2)


def _in_colour(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _encoded(picture: Image.Image, metadata: Mapping[str, str] | None = None) -> bytes:
    texts = PngImagePlugin.PngInfo()
    for key, value in (metadata or {}).items():
        texts.add_itxt(key, value)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", pnginfo=texts)
    return buffer.getvalue()


def _write(data: bytes, path: str | PathLike[str]) -> None:
    with atomic_write(path) as file:
        file.write(data)
