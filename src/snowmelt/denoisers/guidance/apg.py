"""Adaptive projected guidance (Sadat et al. 2024, https://arxiv.org/abs/2410.02416).

What guidance adds is split into a part along the conditional prediction, which mostly saturates, and the part
orthogonal to it, which mostly improves. The first is weakened, and the whole is kept from becoming too long.

The paper's third measure, a (negative) momentum over the steps, is not here: it would need a denoiser that
remembers its last call, and then one denoiser could not serve two runs, nor one run be taken up half-way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, linalg

from snowmelt.denoisers.denoiser import Denoiser
from snowmelt.denoisers.guidance.cfg import ClassifierFreeGuidance, known_null_class
from snowmelt.denoisers.guidance.contrast import Contrast, Mix, line
from snowmelt.denoisers.guidance.guidance import Batched, PlanTable, per_image

__all__ = ["APG", "projected"]


def projected(good: Tensor, bad: Tensor, eta: float, norm_threshold: float | None = None) -> Tensor:
    """Return the difference good - bad, shortened to the threshold, its part along `good` multiplied by eta.

    Args:
        good: (B, ...), in [-1, 1] or thereabouts.
        bad: (B, ...).
        eta: 1 keeps the difference as it is.
        norm_threshold: the largest Euclidean norm of one image's difference; None for any.

    >>> projected(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]]), eta=0.0)
    tensor([[ 0., -1.]])
    """
    difference = good - bad
    if norm_threshold is not None:
        norm = per_image(linalg.vector_norm, difference)
        # min(1, threshold / norm), which a norm of 0 does not spoil
        difference = difference * (norm_threshold / norm.clamp(min=norm_threshold))
    # A prediction of norm 0 has no direction to be along
    direction = good / per_image(linalg.vector_norm, good).clamp(min=torch.finfo(good.dtype).tiny)
    along = per_image(torch.sum, difference * direction) * direction
    return difference + (eta - 1) * along


def projecting(eta: float, norm_threshold: float | None) -> Mix:
    """Return the line through two predictions with their difference `projected`."""
    if eta == 1 and norm_threshold is None:
        return line
    return lambda good, bad, scale: good + (scale - 1) * projected(good, bad, eta, norm_threshold)


def check_projection(eta: float, norm_threshold: float | None) -> None:
    """Refuse what is not a share and not a length."""
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta must lie in [0, 1] (1 keeps the part along the prediction), got {eta}")
    if norm_threshold is not None and not norm_threshold > 0:
        raise ValueError(f"norm_threshold must be positive, or None for no limit, got {norm_threshold}")


@dataclass(frozen=True, kw_only=True)
class APG(Contrast):
    """Adaptive projected guidance: classifier-free guidance that saturates less at large scales.

    Args:
        eta: share of the part along the conditional prediction, in [0, 1]; 1 without a threshold is `CFG`.
        norm_threshold: the largest norm of the difference of two predictions, over all values of an image; it
            grows with the square root of their number. None for any.
        interval: as for `CFG`, and so are `interval_in`, `schedule` and `rescale`.

    >>> APG(eta=0.0, norm_threshold=2.5).eta
    0.0
    """

    name: ClassVar[str] = "apg"

    eta: float = 0.0
    norm_threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_projection(self.eta, self.norm_threshold)

    def wrap(
        self,
        denoiser: Denoiser,
        scale: float,
        *,
        null_class: int | None,
        plan: PlanTable,
        batched: Batched = lambda denoiser: denoiser,
    ) -> Denoiser:
        """Return `denoiser` under adaptive projected guidance; arguments as for `Guidance.wrap`."""
        null_class = known_null_class("adaptive projected guidance", null_class)
        mix = self.mixed_by(projecting(self.eta, self.norm_threshold))
        return ClassifierFreeGuidance(denoiser, self.strength(scale), null_class, mix)
