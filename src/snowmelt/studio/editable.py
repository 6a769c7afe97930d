"""Pictures that somebody gives, as the model takes them; and the files that an edit's command needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from snowmelt.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = ["REGIONS", "as_picture", "enlarged", "fitted", "mask_file", "picture_file", "region", "unpainted"]

CANVAS = 480  # pixels of the longer side of a small picture to paint on

# What is painted anew without a brush: shares of the height and the width, from and to
REGIONS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "left half": ((0, 1), (0, 0.5)),
    "right half": ((0, 1), (0.5, 1)),
    "upper half": ((0, 0.5), (0, 1)),
    "lower half": ((0.5, 1), (0, 1)),
    "middle": ((0.25, 0.75), (0.25, 0.75)),
}


def fitted(picture: Image | None, shape: Sequence[int]) -> Tensor:
    """Return a picture as one image (1, C, H, W) in [-1, 1] of the model's shape, as ``--fit`` does it.

    Raises:
        InputError: there is none.
    """
    from snowmelt.images import Shape, from_picture, from_uint8, resize

    if picture is None:
        raise InputError("there is no picture to edit: give one, or take one from a seed")
    channels, height, width = shape
    pixels = from_picture(picture, channels)
    return from_uint8(resize(pixels, Shape((height, width), channels))).unsqueeze(0)


def as_picture(image: Tensor) -> Image:
    """Return one image (C, H, W) in [-1, 1] as a Pillow image."""
    from snowmelt.images import to_picture, to_uint8

    return to_picture(to_uint8(image.detach().cpu()))


def enlarged(image: Tensor) -> Image:
    """Return one image (C, H, W) in [-1, 1] as a Pillow image large enough to be painted on."""
    factor = max(1, CANVAS // max(image.shape[1:]))
    return as_picture(image.repeat_interleave(factor, 1).repeat_interleave(factor, 2))


def region(name: str, shape: Sequence[int]) -> Tensor:
    """Return a mask (H, W), False in a region of `REGIONS`.

    >>> region("left half", (1, 2, 4)).tolist()
    [[False, False, True, True], [False, False, True, True]]
    """
    import torch

    _, height, width = shape
    (top, bottom), (left, right) = REGIONS[name]
    known = torch.ones(height, width, dtype=torch.bool)
    known[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = False
    return known


def unpainted(layers: Sequence[Image], shape: Sequence[int]) -> Tensor:
    """Return a mask (H, W), False where a brush has been on a layer, which may be larger than the image.

    A pixel counts as painted if a quarter of it is.

    Raises:
        InputError: nothing is painted, or everything.
    """
    import torch

    from snowmelt.images import Shape, from_picture, resize

    _, height, width = shape
    known = torch.ones(height, width, dtype=torch.bool)
    for layer in layers:
        alpha = from_picture(layer.convert("RGBA").getchannel("A"), 1)
        known &= resize(alpha, Shape((height, width)))[0] < 64
    if known.all():
        raise InputError("nothing is marked: brush over the part of the picture that shall be painted anew")
    if not known.any():
        raise InputError("the whole picture is marked: leave some of it, or take Sample")
    return known


def picture_file(images: Tensor, nrow: int = 1) -> bytes:
    """Return the PNG file that a command of ``snowmelt edit`` writes of images (N, C, H, W)."""
    from snowmelt.editing.pictures import write_pictures

    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        write_pictures(images, path, nrow=nrow)
        return path.read_bytes()


def mask_file(known: Tensor) -> bytes:
    """Return a mask (H, W) as the PNG file that a command takes: white stays as it is."""
    return picture_file(known.float().mul(2).sub(1)[None, None])
