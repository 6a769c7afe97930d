"""Which images: one value, checked when it is made."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from snowmelt.denoisers.guidance import Guidance
from snowmelt.models import DiffusionModel
from snowmelt.sampling.noise import drawn_seeds
from snowmelt.text import counted

__all__ = ["Request", "check_count", "check_request"]


@dataclass(frozen=True)
class Request:
    """Images to make: image i has seed i and label i.

    Args:
        seeds: one integer an image, 0 <= seed < 2**63.
        class_labels: one integer an image, >= 0; None for no condition.
        guidance_scale: finite; 0 and 1 are purely conditional.
        use_ema: sample with the averaged weights, where there are any.
        seeded: the seeds were chosen, so each image must not depend on its batch to the bit. False for seeds
            that were drawn for the occasion.

    Raises:
        TypeError, ValueError: a value makes no sense; the message says what to do.

    >>> Request.of(2, class_labels=[0, 3], seeds=[7, 8])
    Request(seeds=(7, 8), class_labels=(0, 3), guidance_scale=0.0, use_ema=True, seeded=True)
    """

    seeds: tuple[int, ...]
    class_labels: tuple[int, ...] | None = None
    guidance_scale: float = 0.0
    use_ema: bool = True
    seeded: bool = True

    def __post_init__(self) -> None:
        check_count("num_samples", len(self.seeds))
        seeds = tuple(_integer("each seed", seed) for seed in self.seeds)
        if outside := [seed for seed in seeds if not 0 <= seed < 2**63]:
            raise ValueError(f"seeds must lie in 0..2**63 - 1, got {outside[0]}")
        scale = self.guidance_scale
        if isinstance(scale, bool) or not isinstance(scale, int | float):
            raise TypeError(f"guidance_scale must be a number, got {type(scale).__name__}")
        if not math.isfinite(scale):
            raise ValueError(f"guidance_scale must be finite, got {scale}")
        labels = _labels(self.class_labels, len(seeds))
        for name, value in (("seeds", seeds), ("guidance_scale", float(scale)), ("class_labels", labels)):
            object.__setattr__(self, name, value)  # the class is frozen, and this is its constructor

    @classmethod
    def of(
        cls,
        num_samples: int,
        class_labels: Tensor | Sequence[int] | None = None,
        guidance_scale: float = 0.0,
        use_ema: bool = True,
        seeds: Sequence[int] | None = None,
    ) -> Self:
        """Return a request for `num_samples` images.

        Args:
            num_samples: how many, >= 1.
            class_labels: (num_samples,) integers of any dtype and device, or None.
            guidance_scale: as above, and so is `use_ema`.
            seeds: one integer an image; None draws them from torch's global generator.
        """
        num_samples = check_count("num_samples", num_samples)
        if seeds is not None and len(seeds) != num_samples:
            raise ValueError(f"seeds length ({len(seeds)}) must match num_samples ({num_samples})")
        labels = _labels(class_labels, num_samples)
        chosen = drawn_seeds(num_samples) if seeds is None else seeds
        return cls(tuple(chosen), labels, guidance_scale, use_ema, seeds is not None)

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, part: slice) -> Self:
        """Return the request for some of the images."""
        labels = self.class_labels[part] if self.class_labels is not None else None
        return replace(self, seeds=self.seeds[part], class_labels=labels)

    @property
    def labels(self) -> Tensor | None:
        """The labels as an int64 tensor (N,) on the CPU."""
        return torch.tensor(self.class_labels) if self.class_labels is not None else None


def check_request(request: Request, model: DiffusionModel, guidance: Guidance) -> None:
    """Raise ValueError where a model cannot make such images, or guidance needs labels that are absent."""
    labels, scale, num_classes = request.class_labels, request.guidance_scale, model.num_classes
    if labels is not None and num_classes is None:
        raise ValueError("class_labels were given, but the model is unconditional: leave them out")
    if labels is not None and num_classes is not None:
        outside = [label for label in (min(labels), max(labels)) if not 0 <= label < num_classes]
        if outside:
            raise ValueError(
                f"class_labels must lie in 0..{num_classes - 1}, as the model has "
                f"{counted(num_classes, 'class')}; got {outside[0]}"
            )
    if guidance.needs_labels and scale not in (0.0, 1.0) and labels is None:
        if num_classes is None:
            raise ValueError(f"guidance_scale is {scale:g}, but the model is unconditional: set it to 0.0")
        raise ValueError(
            f"guidance_scale {scale:g} needs class_labels: without them there is nothing to guide towards; "
            "pass class_labels, or guidance_scale=0.0"
        )


def check_count(name: str, value: Any) -> int:
    """Return `value` as an int of at least 1."""
    number = _integer(name, value)
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def _labels(class_labels: Tensor | Sequence[int] | None, count: int) -> tuple[int, ...] | None:
    if class_labels is None:
        return None
    labels = torch.as_tensor(class_labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"class_labels must be integers, got {labels.dtype}")
    if labels.ndim != 1:
        raise ValueError(f"class_labels must have one dimension, got shape {tuple(labels.shape)}")
    if len(labels) != count:
        raise ValueError(f"class_labels length ({len(labels)}) must match num_samples ({count})")
    numbers: list[int] = labels.tolist()
    return tuple(numbers)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got bool")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
