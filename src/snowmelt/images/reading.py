"""Image files to pixels, in one way for training, evaluation and editing."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from torch import Tensor

from snowmelt.errors import InputError

__all__ = [
    "BACKGROUND",
    "IMAGE_SUFFIXES",
    "check_colour",
    "from_picture",
    "hide",
    "is_image",
    "read_image",
    "read_mask",
    "to_tensor",
]

BACKGROUND = "white"
# Pillow knows more formats. Some of them start an interpreter, as PostScript does: only these are opened
FORMATS = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "QOI": (".qoi",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
GRAY_MODES = frozenset({"1", "L", "LA", "La"})
MAX_PIXELS = 2**29  # 1.5 GiB in colour; Pillow's own bound refuses intact photographs

_LOCK = Lock()  # Pillow's bound and Python's warnings are common to all threads
# One entry for each thread that reads; the last one that leaves undoes what the first one changed
_READING: list[ExitStack] = []


def is_image(path: Path) -> bool:
    """Return whether a path has the name of an image file, and is not hidden.

    >>> is_image(Path("a/photo.JPG")), is_image(Path("a/._photo.jpg"))
    (True, False)
    """
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def check_colour(colour: str, what: str = "background") -> str:
    """Return the name of a colour if it is one; `what` is what an error calls it.

    Raises:
        InputError: it is none.

    >>> check_colour("#808080")
    '#808080'
    """
    try:
        numbers = len(ImageColor.getrgb(colour))
    except (ValueError, TypeError, AttributeError):
        numbers = 0
    if numbers != 3:  # a fourth number would be its opacity
        raise InputError(f"{what} must be a colour, such as white, black or #808080; got {colour!r}")
    return colour


def read_image(
    file: str | PathLike[str] | bytes,
    channels: int | None = None,
    *,
    name: str | None = None,
    background: str = BACKGROUND,
) -> Tensor:
    """Return the pixels of an image file, uint8 (C, H, W), upright. 16 bits a channel are scaled to 8.

    Args:
        file: its path, or its bytes, in one of `FORMATS`. Of an animation, it is the first picture.
        channels: 1, 3, or 4 with alpha; None keeps gray images gray and turns all others into colour.
        name: what error messages call it; None for its path.
        background: the colour behind transparent pixels; with 4 channels, the one that nobody sees.

    Raises:
        InputError: the file is missing, damaged, or of another format; it has more than 16 bits a channel, or
            more than 2^29 pixels.
    """
    name = name or str(file)
    picture = _opened(file, name)
    if picture.mode.startswith(("I", "F")):  # Pillow would clip them at 255
        picture = _eight_bits(picture, name)
    return from_picture(picture, channels, background)


def read_mask(file: str | PathLike[str]) -> Tensor:
    """Return the pixels of a mask file, uint8 (1, H, W): 255 for its brightest pixels, 0 for a hole.

    White, gray, the 1 of a mask of 0 and 1, and 16 bits are all measured by the brightest pixel. A
    transparent pixel is a hole, as paint programs erase it.

    Raises:
        InputError: as for `read_image`, but for the bits of a channel.
    """
    picture = _opened(file, str(file))
    if picture.mode.startswith(("I", "F")):
        light = to_tensor(picture.convert("F"))
    else:
        alpha = picture.convert("RGBA").getchannel("A")
        light = to_tensor(picture.convert("RGBA").convert("L")).float() * to_tensor(alpha)
    light = light.nan_to_num(0.0).clamp(min=0)
    brightness: Tensor = (255 * light / light.max().clamp(min=1e-9)).round()
    return brightness.to(torch.uint8)


def from_picture(picture: Image.Image, channels: int | None = None, background: str = BACKGROUND) -> Tensor:
    """Return the pixels of a Pillow image, uint8 (C, H, W).

    Args:
        picture: with 8 bits a channel, or less.
        channels, background: as for `read_image`.

    >>> from_picture(Image.new("P", (3, 2))).shape
    torch.Size([3, 2, 3])
    >>> from_picture(Image.new("LA", (1, 1)), background="white")  # transparent black
    tensor([[[255]]], dtype=torch.uint8)
    """
    if channels == 4:
        return hide(to_tensor(picture.convert("RGBA")), background)
    if channels is None:
        channels = 1 if picture.mode in GRAY_MODES else 3
    if picture.has_transparency_data:
        behind = Image.new("RGBA", picture.size, background)
        picture = Image.alpha_composite(behind, picture.convert("RGBA"))
        picture = picture.convert("RGB")
    return to_tensor(picture.convert("L" if channels == 1 else "RGB"))


def hide(images: Tensor, background: str) -> Tensor:
    """Return images (..., 4, H, W), uint8, whose transparent pixels all have the colour `background`.

    Files hold any colour there, which nobody sees and no network should learn.

    >>> hide(torch.tensor([7, 7, 7, 0], dtype=torch.uint8).view(4, 1, 1), "white").flatten().tolist()
    [255, 255, 255, 0]
    """
    hidden = torch.tensor([*ImageColor.getrgb(background)[:3], 0], dtype=torch.uint8).view(4, 1, 1)
    return torch.where(images[..., 3:, :, :] == 0, hidden, images)


def _eight_bits(picture: Image.Image, name: str) -> Image.Image:
    """Return a gray picture of 16 bits in 8, rounded: 65,535 becomes 255."""
    sixteen = picture.mode.startswith("I;16") or picture.format in ("PNG", "PPM")
    if picture.mode.startswith("F") or not sixteen:
        raise InputError(
            f"{name} has more than 16 bits a channel (mode {picture.mode}), and nothing says which value is "
            "white: convert it to 8 or 16 bits"
        )
    values = np.asarray(picture).astype(np.int64)
    return Image.fromarray(((values * 255 + 32767) // 65535).clip(0, 255).astype(np.uint8))


def to_tensor(picture: Image.Image) -> Tensor:
    """Return a Pillow image's numbers as they are, (C, H, W).

    >>> to_tensor(Image.new("RGB", (3, 2))).shape
    torch.Size([3, 2, 3])
    """
    pixels = torch.from_numpy(np.array(picture))  # (H, W) or (H, W, C)
    return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.movedim(-1, 0)


def _opened(file: str | PathLike[str] | bytes, name: str) -> Image.Image:
    """Return a picture that is decoded and upright."""
    try:  # from bytes, since Pillow turns some TIFF files wrongly that it maps into memory
        data = file if isinstance(file, bytes) else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error
    try:
        with _by_our_bounds(), Image.open(io.BytesIO(data), "r", _formats(name)) as opened:
            if (pixels := opened.width * opened.height) > MAX_PIXELS:
                raise InputError(
                    f"{name} has {opened.width} x {opened.height} = {pixels:,} pixels, more than "
                    f"{MAX_PIXELS:,}: make it smaller"
                )
            opened.load()
            ImageOps.exif_transpose(opened, in_place=True)
            return opened
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise InputError(
            f"{name} cannot be read as an image (it is none of {', '.join(_formats(name))}): repair or "
            "remove it"
        ) from error
    except Exception as error:  # a damaged file may raise anything, depending on its format
        raise InputError(f"{name} cannot be read as an image ({error}): repair or remove it") from error


def _formats(name: str) -> list[str]:
    """Return the formats that Pillow may try. A TGA file has no mark at its start: its name must say it."""
    Image.init()
    known = [each for each in FORMATS if each in Image.OPEN]
    return [each for each in known if each != "TGA" or name.lower().endswith(FORMATS["TGA"])]


@contextmanager
def _by_our_bounds() -> Iterator[None]:
    """Lift Pillow's bound on pixels, and silence what it says of each file that it reads all the same."""
    with _LOCK:
        _READING.append(_READING[0] if _READING else _lifted())
    try:
        yield
    finally:
        with _LOCK:
            last = _READING.pop()
            if not _READING:
                last.close()


def _lifted() -> ExitStack:
    """Change Pillow's bound and Python's warnings until the result is closed."""
    changed = ExitStack()
    changed.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    changed.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    Image.MAX_IMAGE_PIXELS = None
    return changed
