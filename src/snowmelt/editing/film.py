"""Films of how an image is made: the state and the predicted image, side by side or frame by frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from snowmelt.core import Level
from snowmelt.files import atomic_write
from snowmelt.images import film_strip, tiled, to_picture, to_uint8
from snowmelt.plans import State
from snowmelt.sampling.request import check_count

__all__ = ["Frame", "check_seconds", "choose_frames", "each_frame", "save_animation", "save_film_strip"]

FORMATS: dict[str, dict[str, Any]] = {
    ".gif": {"format": "gif"},
    ".webp": {"format": "webp", "lossless": True},
}
READABLE_SIDE = 64
CAPTION_HEIGHT = 14
LAST_FRAME_SHARE = 10  # how many frames long the result is shown


class Frame(NamedTuple):
    """What is shown of a row.

    Attributes:
        x_t: (B, C, H, W), the state, divided by sqrt(alpha^2 + sigma^2) to be of about unit variance.
        x0: (B, C, H, W), the image that the denoiser predicted on the way there.
        level: of x_t.
    """

    x_t: Tensor
    x0: Tensor
    level: Level[float]

    @property
    def caption(self) -> str:
        """Time and noise of the state."""
        return f"t {self.level.t:.3f}  sigma {self.level.sigma:.3g}"


def choose_frames(states: Iterable[State], num_states: int, max_frames: int = 100) -> list[Frame]:
    """Return at most `max_frames` of a trajectory's states, evenly spread from the first to the last.

    Only those are kept in memory; a single one is the last.

    Args:
        states: of `DiffusionSampler.trajectory` or `run`.
        num_states: how many there are: ``plan.nfe``.
        max_frames: >= 1.

    >>> from snowmelt import DiffusionSampler, create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> sampler = DiffusionSampler(model, solver="ddim", steps=10)
    >>> frames = choose_frames(sampler.trajectory(1), sampler.plan.nfe, max_frames=4)
    >>> [frame.caption for frame in frames]
    ['t 0.900  sigma 1', 't 0.600  sigma 0.987', 't 0.300  sigma 0.777', 't 0.000  sigma 0']
    """
    return list(each_frame(states, num_states, max_frames))


def each_frame(states: Iterable[State], num_states: int, max_frames: int = 100) -> Iterator[Frame]:
    """Yield what `choose_frames` returns, each frame when it is made."""
    count = min(num_states, check_count("max_frames", max_frames))
    chosen = {num_states - 1 - (num_states - 1) * i // max(1, count - 1) for i in range(count)}
    for i, state in enumerate(states):
        if i in chosen:
            scale = math.hypot(state.level.alpha, state.level.sigma)
            yield Frame(state.x_t.cpu() / scale, state.x0.cpu(), state.level)


def save_film_strip(frames: Sequence[Frame], path: str | PathLike[str], *, scale: int | None = None) -> None:
    """Write frames as one PNG: a column a frame, and two rows an image, its state above its prediction.

    Args:
        frames: from `choose_frames`.
        path: the file; missing folders are made.
        scale: each pixel becomes `scale` by `scale`; None makes small images readable.
    """
    film_strip([torch.stack([frame.x_t, frame.x0], 1).flatten(0, 1) for frame in frames], path, scale=scale)


def check_seconds(seconds: float) -> None:
    """Check the length of an animation.

    Raises:
        ValueError: it is not positive and finite.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds must be positive and finite, got {seconds}")


def save_animation(
    frames: Sequence[Frame],
    path: str | PathLike[str],
    *,
    scale: int | None = None,
    seconds: float = 5.0,
) -> None:
    """Write frames as an endless animation: states above, predictions below, time and noise as a caption.

    Args:
        frames: from `choose_frames`, one or three channels.
        path: the file, ``.gif`` or ``.webp``; missing folders are made.
        scale: each pixel becomes `scale` by `scale`; None makes small images readable.
        seconds: how long the way from noise to image takes, > 0 and finite; the image then stays for a while.

    Raises:
        ValueError: there are no frames, or the file has another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"an animation is a file *{' or *'.join(FORMATS)}, got {Path(path).name!r}")
    if not frames:
        raise ValueError("there are no frames to animate")
    check_seconds(seconds)
    if scale is None:
        scale = -(-READABLE_SIDE // min(frames[0].x_t.shape[-2:]))
    font = ImageFont.load_default()
    width = 4 + math.ceil(max(font.getbbox(frame.caption)[2] for frame in frames))
    first, *others = [_picture(frame, check_count("scale", scale), width) for frame in frames]
    each = max(20, round(1000 * seconds / len(frames)))  # browsers slow down what is faster
    durations = [each] * len(others) + [each * LAST_FRAME_SHARE]
    with atomic_write(path) as file:
        first.save(file, save_all=True, append_images=others, duration=durations, loop=0, **FORMATS[suffix])


def _picture(frame: Frame, scale: int, width: int) -> Image.Image:
    """Return one frame: its caption on a strip of at least `width` pixels, and its images below."""
    images = to_uint8(torch.cat([frame.x_t, frame.x0]))
    images = images.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    tiles = to_picture(tiled(images, len(frame.x0)))
    tiles = tiles.convert("L") if images.shape[1] == 1 else tiles  # a grid is always in colour
    picture = Image.new(tiles.mode, (max(tiles.width, width), tiles.height + CAPTION_HEIGHT), "white")
    picture.paste(tiles, (0, CAPTION_HEIGHT))
    ImageDraw.Draw(picture).text((2, 0), frame.caption, fill="black")
    return picture
