"""What `snowmelt edit` needs: a sampler from words, images from files, pictures into files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from snowmelt.build.device import resolve_device
from snowmelt.build.plans import _option
from snowmelt.editing.method import choose_method
from snowmelt.errors import InputError, as_input_errors
from snowmelt.files import atomic_write
from snowmelt.images import from_uint8, read_image, save_grid, save_png
from snowmelt.plans import PRESETS, SOLVERS
from snowmelt.sampling import DiffusionSampler

__all__ = [
    "Words",
    "a_label_each",
    "by_row",
    "integers",
    "load_sampler",
    "numbers",
    "read_images",
    "read_mask",
    "read_words",
    "write_noise",
    "write_pictures",
]

T = TypeVar("T")


class Words(NamedTuple):
    """A method as the library's edits take it: ``**words.arguments``."""

    solver: str
    steps: int | None
    grid: str | None
    options: dict[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """All of it as keyword arguments."""
        return {"solver": self.solver, "steps": self.steps, "grid": self.grid, **self.options}


def read_words(
    solver: str, steps: int | None = None, grid: str | None = None, options: Sequence[str] = ()
) -> Words:
    """Return the method that the words of the command line ask for.

    Args:
        solver: a solver or a preset; ``ddpm``, which is both, is the solver.
        steps: of a solver.
        grid: of a solver.
        options: of a solver, ``key=value`` each, the value in YAML.

    Raises:
        InputError: there is no such name, or a preset is given settings that it has already.

    >>> read_words("ddim", 4, options=["eta=0.5"]).arguments
    {'solver': 'ddim', 'steps': 4, 'grid': None, 'eta': 0.5}
    """
    chosen = dict(_option(text) for text in options)
    if solver in SOLVERS or solver not in PRESETS:
        return Words(solver, steps, grid, chosen)
    if steps is not None or grid is not None or chosen:
        raise InputError(
            f"{solver} has its steps, grid and options already: leave them out, or name a solver"
        )
    preset = PRESETS[solver]
    return Words(preset.solver, preset.steps, preset.grid, dict(preset.options))


def load_sampler(
    checkpoint: Path, words: Words, *, device: str = "auto", use_ema: bool = True
) -> DiffusionSampler:
    """Return a sampler with a checkpoint's model and the method that `words` say.

    Warns where EMA weights are asked for and absent.

    Raises:
        InputError: the file is missing, broken or says not how to build its network, or the words make no
            plan on its schedule.
    """
    sampler = DiffusionSampler.from_pretrained(checkpoint, resolve_device(device), use_ema=use_ema)
    if use_ema and sampler.ema is None:
        warnings.warn(
            f"{checkpoint} has no EMA weights: the weights themselves are used; --no-ema asks for that",
            stacklevel=2,
        )
    with as_input_errors():
        plan = choose_method(sampler.model.schedule, **words.arguments).plan()
    return DiffusionSampler(sampler.model, sampler.device, sampler.ema, plan=plan)


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


def by_row(columns: Sequence[Tensor]) -> Tensor:
    """Return columns of N images as N rows, one after the other.

    >>> by_row([torch.tensor([1, 2]), torch.tensor([10, 20])])
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


def integers(text: str | None, option: str) -> list[int] | None:
    """Return the numbers in ``"1,2,3"``; None stays None.

    >>> integers("3,5", "--seeds")
    [3, 5]
    """
    return _listed(text, option, int, "integers, such as 1,2,3")


def numbers(text: str, option: str) -> list[float]:
    """Return the numbers in ``"0,0.5,1"``.

    >>> numbers("0,0.5", "--strength")
    [0.0, 0.5]
    """
    return _listed(text, option, float, "numbers, such as 0.2,0.5") or []


def _listed(text: str | None, option: str, kind: Callable[[str], T], expected: str) -> list[T] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} takes {expected}; got {text!r}") from None


def a_label_each(labels: list[int] | None, count: int, option: str) -> list[int] | None:
    """Return `count` labels: as they are, or the only one for all.

    >>> a_label_each([3], 2, "--class")
    [3, 3]
    """
    if labels is None or len(labels) == count:
        return labels
    if len(labels) == 1:
        return labels * count
    raise InputError(f"{option} takes one label, or one for each of the {count} images; got {len(labels)}")
