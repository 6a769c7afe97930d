"""Keeping predicted images inside the data's range, as wrappers around a denoiser."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from snowmelt.core import Level
from snowmelt.denoisers.denoiser import Denoiser

__all__ = ["THRESHOLDS", "Clip", "DynamicThresholding"]


class Clip:
    """Clamp the predicted image to the data's range, as DDPM's sampler does.

    Args:
        denoiser: any.
        bound: images live in [-bound, bound]; > 0.

    >>> import torch
    >>> Clip(lambda x_t, level, class_labels=None: 3 * x_t)(torch.tensor([0.2, -0.5]), None)
    tensor([ 0.6000, -1.0000])
    """

    def __init__(self, denoiser: Denoiser, bound: float = 1.0) -> None:
        self.denoiser = denoiser
        self.bound = bound

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        return self.denoiser(x_t, level, class_labels).clamp(-self.bound, self.bound)


class DynamicThresholding:
    """Clamp each predicted image at a high quantile of its own values, then scale it back into range.

    Imagen (Saharia et al. 2022, section 2.3): with s the quantile of |x0|, at least 1, x0 is clamped to
    [-s, s] and divided by s. It keeps strong guidance from saturating whole regions.

    Args:
        denoiser: any.
        quantile: in (0, 1].

    >>> import torch
    >>> bright = lambda x_t, level, class_labels=None: 4 * x_t
    >>> DynamicThresholding(bright, quantile=1.0)(torch.tensor([[0.5, -1.0]]), None)
    tensor([[ 0.5000, -1.0000]])
    """

    def __init__(self, denoiser: Denoiser, quantile: float = 0.995) -> None:
        if not 0.0 < quantile <= 1.0:
            raise ValueError(f"quantile must lie in (0, 1], got {quantile}")
        self.denoiser = denoiser
        self.quantile = quantile

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        x0 = self.denoiser(x_t, level, class_labels)
        # kthvalue, unlike quantile, knows no limit on the number of pixels
        magnitude = x0.flatten(1).abs()
        rank = max(1, round(self.quantile * magnitude.shape[1]))
        s = magnitude.kthvalue(rank, dim=1).values.clamp(min=1.0).view(-1, *[1] * (x0.ndim - 1))
        return x0.clamp(-s, s) / s


THRESHOLDS: dict[str, Callable[[Denoiser], Denoiser]] = {"clip": Clip, "dynamic": DynamicThresholding}
