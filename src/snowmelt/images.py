"""Images as tensors and as files.

Inside snowmelt an image is a float tensor (C, H, W) in [-1, 1]. C is 1 for gray and 3 for colour. In files,
-1 is 0 and 1 is 255 for every image: nothing is stretched, so gray stays gray.

Every image file that snowmelt reads goes through `read_image`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin
from torch import Tensor
from torchvision.transforms.functional import pad, pil_to_tensor, to_pil_image
from torchvision.transforms.v2 import functional
from torchvision.utils import make_grid

from snowmelt.errors import InputError
from snowmelt.files import atomic_write

__all__ = [
    "Shape",
    "decode_png",
    "encode_png",
    "film_strip",
    "from_picture",
    "from_uint8",
    "read_image",
    "resize",
    "save_grid",
    "save_png",
    "to_uint8",
]

GRAY_MODES = frozenset({"1", "L", "LA"})
READABLE_SIDE = 32  # in grids, smaller images are enlarged
CAPTION_HEIGHT = 12


class Shape(NamedTuple):
    """The shape that images should have.

    Attributes:
        size: (H, W); None keeps the size of the images.
        channels: 1 or 3; None keeps the channels of the images.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None


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


def read_image(
    file: str | PathLike[str] | bytes, channels: int | None = None, *, name: str | None = None
) -> Tensor:
    """Return the pixels of an image file, uint8 (C, H, W), upright.

    Args:
        file: its path, or its bytes.
        channels: 1 or 3; None keeps gray images gray and turns all others into colour.
        name: what error messages call it; None for its path.

    Raises:
        InputError: Pillow cannot read the file, or it has more than 8 bits a channel.
    """
    name = name or str(file)
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except FileNotFoundError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged file may raise anything, depending on its format
        raise InputError(f"{name} cannot be read as an image ({error}): repair or remove it") from error
    if picture.mode.startswith(("I", "F")):  # Pillow would clip them at 255
        raise InputError(f"{name} has more than 8 bits a channel (mode {picture.mode}): convert it to 8 bits")
    return from_picture(picture, channels)


def from_picture(picture: Image.Image, channels: int | None = None) -> Tensor:
    """Return the pixels of a Pillow image, uint8 (C, H, W).

    Args:
        picture: with 8 bits a channel, or less.
        channels: as for `read_image`.

    >>> from_picture(Image.new("P", (3, 2))).shape
    torch.Size([3, 2, 3])
    """
    if channels is None:
        channels = 1 if picture.mode in GRAY_MODES else 3
    pixels: Tensor = pil_to_tensor(picture.convert("L" if channels == 1 else "RGB"))
    return pixels


def resize(images: Tensor, shape: Shape) -> Tensor:
    """Return uint8 images (..., C, H, W) in another size and with other channels.

    The shorter side is resized, with antialiasing, until the image covers the size. Then the middle is cut
    out. Training data is treated in the same way.

    >>> resize(torch.zeros(1, 20, 30, dtype=torch.uint8), Shape((8, 8), 3)).shape
    torch.Size([3, 8, 8])
    """
    if shape.size is not None and tuple(images.shape[-2:]) != shape.size:
        images = functional.resize(images, [max(shape.size)], antialias=True)
        images = functional.center_crop(images, list(shape.size))
    if shape.channels == 1 and images.shape[-3] == 3:
        # Luma as Pillow computes it: a gray pixel keeps its value, to the last bit
        red, green, blue = images.int().unbind(dim=-3)
        luma = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
        images = luma.to(torch.uint8).unsqueeze(-3)
    elif shape.channels == 3 and images.shape[-3] == 1:
        images = images.expand(*images.shape[:-3], 3, -1, -1)
    return images


def save_png(image: Tensor, path: str | PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write one image (C, H, W) in [-1, 1] as PNG, whole or not at all.

    Args:
        image: one or three channels.
        path: the file; missing folders are made.
        metadata: texts that the file carries along.
    """
    _write(encode_png(to_uint8(image.detach().cpu()), metadata), path)


def encode_png(image: Tensor, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return one uint8 image (C, H, W) as the bytes of a PNG file.

    Args:
        image: one or three channels, on the CPU.
        metadata: texts that the file carries along; a key has 1 to 79 Latin-1 characters.

    >>> image = torch.full((3, 2, 2), 7, dtype=torch.uint8)
    >>> pixels, metadata = decode_png(encode_png(image, {"seed": "5"}))
    >>> torch.equal(pixels, image), metadata
    (True, {'seed': '5'})
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"an image to save has shape (1, H, W) or (3, H, W), got {tuple(image.shape)}")
    if image.dtype != torch.uint8:
        raise ValueError(f"a PNG holds uint8, got {image.dtype}: convert images in [-1, 1] with to_uint8")
    return _encoded(to_pil_image(image), metadata)


def decode_png(data: bytes) -> tuple[Tensor, dict[str, str]]:
    """Return a PNG file's image, uint8 (C, H, W), and the texts that it carries: `encode_png` undone.

    Raises:
        OSError: the bytes are no PNG file, or not all of one.
    """
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        pixels = pil_to_tensor(picture)
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
        images: one or three channels each.
        path: the PNG file.
        nrow: images in a row, >= 1.
        captions: a line of text above each image; where one is wider than its image, all tiles are widened.
        scale: each pixel becomes `scale` by `scale`; None makes small images readable.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(f"images for a grid have shape (N, 1 or 3, H, W), got {tuple(images.shape)}")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"captions length ({len(captions)}) must match the images ({len(images)})")
    if nrow < 1:
        raise ValueError(f"nrow must be at least 1, got {nrow}")
    if scale is None:
        scale = -(-READABLE_SIDE // min(images.shape[-2:]))
    elif scale < 1:
        raise ValueError(f"scale must be at least 1, or None to choose one, got {scale}")
    tiles = to_uint8(images.detach().cpu())
    tiles = tiles.expand(-1, 3, -1, -1) if captions is not None else tiles
    tiles = tiles.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    if captions is not None:
        width = max(tiles.shape[-1], *(_text_width(text) for text in captions))
        tiles = pad(tiles, [0, 0, width - tiles.shape[-1], 0], fill=255)
        tiles = torch.stack([_captioned(tile, text) for tile, text in zip(tiles, captions, strict=True)])
    _write(_encoded(to_pil_image(make_grid(tiles, nrow=nrow, padding=2, pad_value=255))), path)


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
    return torch.cat([pil_to_tensor(strip), tile], dim=-2)


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
