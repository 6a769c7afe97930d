"""Checks and helpers that all edits share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from snowmelt.plans import Method, Plan, State, last_state
from snowmelt.sampling import DiffusionSampler, Request, SeededNoise

__all__ = ["Spoken", "check_images", "check_strength", "choose_method", "last", "seeded_noise"]

Spoken = Method | Plan | str | Mapping[str, Any] | None  # any spelling of a method; None is the sampler's


def check_images(sampler: DiffusionSampler, images: Tensor) -> Tensor:
    """Return (B, C, H, W) images in [-1, 1] on the sampler's device; others are an error."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        given = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            f"images must be a float tensor in [-1, 1], got {given}; snowmelt.images.from_uint8 makes one"
        )
    if not sampler.bounded:
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


def check_strength(strength: float, sampler: DiffusionSampler | None = None) -> float:
    """Return `strength`, a number in [0, 1].

    With a sampler it is the time at which sampling begins. A model on trained steps knows nothing of times
    below the first one.
    """
    if isinstance(strength, bool) or not isinstance(strength, int | float):
        raise TypeError(f"strength must be a number, got {type(strength).__name__}")
    if not (math.isfinite(strength) and 0 <= strength <= 1):
        raise ValueError(
            f"strength must lie in [0, 1] (0 changes nothing, 1 keeps nothing), got {strength:g}"
        )
    schedule = sampler.model.schedule if sampler is not None else None
    if schedule is not None and schedule.num_timesteps and 0 < strength < schedule.t_min:
        raise ValueError(
            f"strength {strength:g} is less than one trained step of the model: take 0, which changes "
            f"nothing, or at least 1/{schedule.num_timesteps} = {schedule.t_min:g}"
        )
    return float(strength)


def seeded_noise(sampler: DiffusionSampler, seeds: Sequence[int] | None, num_images: int) -> SeededNoise:
    """Return the noise source of `num_images` seeds; None draws them, as `DiffusionSampler.sample` does."""
    return SeededNoise(Request.of(num_images, seeds=seeds).seeds, sampler.model.image_shape, sampler.device)


def last(sampler: DiffusionSampler, states: Iterable[State]) -> Tensor:
    """Run to the end and return the last state as images in [-1, 1]."""
    return sampler.images(last_state(states))


def choose_method(sampler: DiffusionSampler, method: Spoken, keywords: Mapping[str, Any]) -> Method:
    """Return the method that the arguments of an edit say; without any, the sampler's.

    A finished plan has no solver that could start halfway, turn round or repeat itself.
    """
    chosen = Method.of(method, **keywords) if method is not None or keywords else sampler.method
    if chosen.table is not None:
        raise ValueError(
            f"the finished plan {chosen} cannot start halfway, turn round or repeat itself: give a method, "
            'such as method="balanced"'
        )
    return chosen
