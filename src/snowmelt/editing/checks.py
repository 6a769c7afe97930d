"""What all edits check and share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from torch import Tensor

from snowmelt.adapters.latent import LatentModel
from snowmelt.plans import State
from snowmelt.sampling.checks import check_seeds
from snowmelt.sampling.noise import SeededNoise, drawn_seeds
from snowmelt.sampling.sampler import DiffusionSampler, last_state

__all__ = ["check_images", "check_strength", "last", "seeded_noise"]


def check_images(sampler: DiffusionSampler, images: Tensor) -> Tensor:
    """Return (B, C, H, W) images in [-1, 1] on the sampler's device; others are an error."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        given = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            f"images must be a float tensor in [-1, 1], got {given}; snowmelt.images.from_uint8 makes one"
        )
    if isinstance(sampler.model, LatentModel):
        raise ValueError("images cannot be edited in latents: the model has a decoder, but no encoder")
    if images.ndim != 4 or images.shape[1:] != tuple(sampler.model.image_shape):
        expected = ", ".join(map(str, sampler.model.image_shape))
        raise ValueError(
            f"images must have the model's shape (B, {expected}), got {tuple(images.shape)}: resize them, or "
            "change their number of channels"
        )
    if len(images) == 0:
        raise ValueError("there is no image to edit: images is empty")
    low, high = images.min().item(), images.max().item()
    if not (low >= -1 and high <= 1):  # NaN is outside, too
        raise ValueError(f"images must lie in [-1, 1], got values from {low:g} to {high:g}")
    return images.to(sampler.device)


def check_strength(strength: float) -> float:
    """Return `strength`, a number in [0, 1]."""
    if isinstance(strength, bool) or not isinstance(strength, int | float):
        raise TypeError(f"strength must be a number, got {type(strength).__name__}")
    if not (math.isfinite(strength) and 0 <= strength <= 1):
        raise ValueError(
            f"strength must lie in [0, 1] (0 changes nothing, 1 keeps nothing), got {strength:g}"
        )
    return float(strength)


def seeded_noise(sampler: DiffusionSampler, seeds: Sequence[int] | None, num_images: int) -> SeededNoise:
    """Return the noise source of `num_images` seeds; None draws them, as `DiffusionSampler.sample` does."""
    numbers = check_seeds(seeds, num_images) or drawn_seeds(num_images)
    return SeededNoise(numbers, sampler.model.image_shape, sampler.device)


def last(sampler: DiffusionSampler, states: Iterable[State]) -> Tensor:
    """Run to the end and return the last state as images in [-1, 1]."""
    return sampler.images(last_state(states))
