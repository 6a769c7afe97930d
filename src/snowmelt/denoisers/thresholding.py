"""Keeping predicted images inside the data's range, as wrappers around a denoiser."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from snowmelt.core import Level
from snowmelt.denoisers.denoiser import Answer, Answering, Denoiser, ask

__all__ = ["THRESHOLDS", "Clip", "DynamicThresholding", "keep_in_range"]


class Clip(Answering):
    """Clamp the predicted image to the data's range, as DDPM's sampler does.

    Args:
        denoiser: any.
        bound: images live in [-bound, bound]; > 0.

    Raises:
        ValueError: the bound is not positive.

    >>> import torch
    >>> Clip(lambda x_t, level, class_labels=None: 3 * x_t)(torch.tensor([0.2, -0.5]), None)
    tensor([ 0.6000, -1.0000])
    """

    def __init__(self, denoiser: Denoiser, bound: float = 1.0) -> None:
        if not bound > 0:
            raise ValueError(f"bound must be positive, got {bound}")
        self.denoiser = denoiser
        self.bound = bound

    def answer(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Answer:
        """Return the clamped image, and the variance as it is."""
        x0, variance = ask(self.denoiser, x_t, level, class_labels)
        return Answer(x0.clamp(-self.bound, self.bound), variance)


class DynamicThresholding(Answering):
    """Clamp each predicted image at a high quantile of its own values, then scale it back into range.

    Imagen (Saharia et al. 2022, section 2.3): with s the quantile of ``|x0|``, at least 1, x0 is clamped to
    [-s, s] and divided by s. It keeps strong guidance from saturating whole regions.

    Args:
        denoiser: any.
        quantile: in (0, 1].
        maximum: the largest s, >= 1.

    >>> import torch
    >>> bright = lambda x_t, level, class_labels=None: 4 * x_t
    >>> DynamicThresholding(bright, quantile=1.0)(torch.tensor([[0.5, -1.0]]), None)
    tensor([[ 0.5000, -1.0000]])
    """

    def __init__(self, denoiser: Denoiser, quantile: float = 0.995, maximum: float = math.inf) -> None:
        if not 0.0 < quantile <= 1.0:
            raise ValueError(f"quantile must lie in (0, 1], got {quantile}")
        if not maximum >= 1.0:
            raise ValueError(f"maximum must be at least 1, got {maximum}")
        self.denoiser = denoiser
        self.quantile = quantile
        self.maximum = maximum

    def answer(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Answer:
        """Return the scaled image, and the variance as it is."""
        x0, variance = ask(self.denoiser, x_t, level, class_labels)
        # kthvalue, unlike quantile, knows no limit on the number of pixels
        magnitude = x0.flatten(1).abs()
        rank = max(1, round(self.quantile * magnitude.shape[1]))
        s = magnitude.kthvalue(rank, dim=1).values.clamp(1.0, self.maximum).view(-1, *[1] * (x0.ndim - 1))
        return Answer(x0.clamp(-s, s) / s, variance)


THRESHOLDS: dict[str, Callable[..., Denoiser]] = {"clip": Clip, "dynamic": DynamicThresholding}


def keep_in_range(denoiser: Denoiser, threshold: str | Mapping[str, Any] | None) -> Denoiser:
    """Return `denoiser` with a threshold around it.

    Args:
        denoiser: any.
        threshold: a key of `THRESHOLDS`, a mapping of its ``type`` and options, or None for no threshold.

    Raises:
        ValueError: the threshold or its option is unknown.

    >>> import torch
    >>> bright = lambda x_t, level, class_labels=None: 4 * x_t
    >>> keep_in_range(bright, {"type": "clip", "bound": 2.0})(torch.tensor([0.3, 1.0]), None)
    tensor([1.2000, 2.0000])
    """
    if threshold is None:
        return denoiser
    options = {"type": threshold} if isinstance(threshold, str) else dict(threshold)
    name = options.pop("type", None)
    if name not in THRESHOLDS:
        raise ValueError(f"threshold must be None or one of {', '.join(THRESHOLDS)}, got {threshold!r}")
    known = list(inspect.signature(THRESHOLDS[name]).parameters)[1:]
    for option in options.keys() - known:
        raise ValueError(f"threshold {name!r} has no option {option!r}; expected {', '.join(known)}")
    return THRESHOLDS[name](denoiser, **options)
