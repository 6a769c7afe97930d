"""Checks of what a user asks a sampler for: each says what was given, what was expected, what to do."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_class_labels", "check_count", "check_guidance_scale", "check_seeds"]


def check_count(name: str, value: Any) -> int:
    """Return `value` as an int of at least 1."""
    number = _integer(name, value)
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def check_guidance_scale(scale: float, class_labels: Tensor | None, *, needs_labels: bool = True) -> float:
    """Return `scale`, finite, and with labels if it guides at all (0 and 1 do not) and needs them."""
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise TypeError(f"guidance_scale must be a number, got {type(scale).__name__}")
    if not math.isfinite(scale):
        raise ValueError(f"guidance_scale must be finite, got {scale}")
    if needs_labels and scale not in (0.0, 1.0) and class_labels is None:
        raise ValueError(
            f"guidance_scale {scale:g} needs class_labels: without them there is nothing to guide towards; "
            "pass class_labels, or guidance_scale=0.0"
        )
    return float(scale)


def check_class_labels(
    class_labels: Tensor | Sequence[int] | None, num_samples: int, num_classes: int | None
) -> Tensor | None:
    """Return the labels as an int64 tensor (num_samples,), each in 0 .. num_classes - 1; None stays None."""
    if class_labels is None:
        return None
    if not num_classes:
        raise ValueError("class_labels were given, but the model is unconditional: leave them out")
    labels = torch.as_tensor(class_labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"class_labels must be integers, got {labels.dtype}")
    if labels.ndim != 1:
        raise ValueError(f"class_labels must have one dimension, got shape {tuple(labels.shape)}")
    if len(labels) != num_samples:
        raise ValueError(f"class_labels length ({len(labels)}) must match num_samples ({num_samples})")
    labels = labels.long()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"class_labels must lie in 0..{num_classes - 1}, as the model has {num_classes} classes; "
            f"got {low if low < 0 else high}"
        )
    return labels


def check_seeds(seeds: Sequence[int] | None, num_samples: int) -> list[int] | None:
    """Return the seeds as a list of ints, one a sample; None stays None."""
    if seeds is None:
        return None
    numbers = [_integer("each seed", seed) for seed in seeds]
    if len(numbers) != num_samples:
        raise ValueError(f"seeds length ({len(numbers)}) must match num_samples ({num_samples})")
    outside = [seed for seed in numbers if not 0 <= seed < 2**63]
    if outside:
        raise ValueError(f"seeds must lie in 0..2**63 - 1, got {outside[0]}")
    return numbers


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got bool")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
