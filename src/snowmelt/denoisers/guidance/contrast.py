"""Guidance by contrast: a good prediction, a bad one, and the line through both beyond the good.

    D = D_bad + scale (D_good - D_bad)

Classifier-free guidance, adaptive projected guidance and autoguidance are this line; they differ in what is
bad, and in what of the difference is kept.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from snowmelt.denoisers.guidance.guidance import Guidance, PlanTable, Strength, per_image

__all__ = ["Contrast", "Mix", "line", "rescaled"]

Mix = Callable[[Tensor, Tensor, float], Tensor]


def line(good: Tensor, bad: Tensor, scale: float) -> Tensor:
    """Return bad + scale (good - bad).

    >>> line(torch.tensor([2.0]), torch.tensor([1.0]), 3.0)
    tensor([4.])
    """
    return torch.lerp(bad, good, scale)


def rescaled(guided: Tensor, good: Tensor, phi: float) -> Tensor:
    """Return guided images, each with phi of the way to the standard deviation of the good prediction.

    Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.4
    (https://arxiv.org/abs/2305.08891): strong guidance overexposes, which shows in the spread of an image's
    values. Here they are those of the predicted image, for a network of any parameterization.

    Args:
        guided: (B, ...).
        good: (B, ...), the prediction that was guided away from the bad one.
        phi: in [0, 1].

    >>> rescaled(torch.tensor([[4.0, -4.0]]), torch.tensor([[1.0, -1.0]]), phi=0.5)
    tensor([[ 2.5000, -2.5000]])
    """
    std_good, std_guided = (per_image(partial(torch.std, correction=0), x) for x in (good, guided))
    # A flat image has no spread to scale
    ratio = torch.where(std_guided > 0, std_good / std_guided, 1.0)
    return torch.lerp(guided, guided * ratio, phi)


@dataclass(frozen=True, kw_only=True)
class Contrast(Guidance, ABC):
    """Abstract: guidance by contrast; at scale 1 the good prediction alone, and the bad one not computed.

    Args:
        rescale: phi in [0, 1] of `rescaled`; 0 leaves it out.
    """

    rescale: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.rescale <= 1.0:
            raise ValueError(f"rescale must lie in [0, 1] (1 keeps the whole spread), got {self.rescale}")

    def guides(self, scale: float) -> bool:
        """Return whether the scale is neither 0, which is off, nor 1, which changes nothing."""
        return scale not in (0.0, 1.0)

    def strength(self, scale: float) -> Strength:
        """Return the scale at each level: ``1 + (scale - 1) share``."""
        return lambda level: 1 + (scale - 1) * self.share(level)

    def evaluations(self, scale: float, plan: PlanTable) -> int:
        """Return two evaluations a row, and one where the scale is 1."""
        return doubled(self.strength(scale), plan)

    def mixed_by(self, mix: Mix) -> Mix:
        """Return `mix` with the rescaling after it."""
        if self.rescale == 0:
            return mix
        return lambda good, bad, scale: rescaled(mix(good, bad, scale), good, self.rescale)


def doubled(strength: Strength, plan: PlanTable) -> int:
    """Return the evaluations of a plan whose rows take two, but for those at which the scale is 1."""
    return sum(1 if strength(row.level) == 1 else 2 for row in plan.rows)
