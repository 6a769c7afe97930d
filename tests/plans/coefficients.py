"""Runs without sampling error: where the denoiser is linear, the loop can run on coefficients.

Every state is then a combination of 1, of the first noise and of the fresh noises. We write a state as the
row of their weights. `integrate` is linear in the state, so it turns rows into rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snowmelt.core import Level
from snowmelt.plans import Plan, integrate

__all__ = ["known_image", "last_weights", "normal", "variance"]

# (state, level, the weights of the constant 1) -> x0
Linear = Callable[[Tensor, Level[float], Tensor], Tensor]


def last_weights(plan: Plan, denoiser: Linear, mean: float | Tensor, std: float | Tensor) -> Tensor:
    """Return the weights of 1, of the first noise and of each fresh noise in the last state, (B, 2 + draws).

    Args:
        plan: the table to run.
        denoiser: linear in the state.
        mean, std: of the first state, which is mean + std * noise; floats, or (B, 1) for B problems at once.
    """
    unit = torch.eye(2 + (plan.nfe if plan.stochastic else 0), dtype=torch.float64)[:, None]
    fresh = iter(unit[2:])
    start = mean * unit[0] + std * unit[1]
    return integrate(plan, lambda y, level, _: denoiser(y, level, unit[0]), start, noise=fresh.__next__)


def variance(weights: Tensor) -> Tensor:
    """Return the variance of each state, (B,)."""
    return weights[:, 1:].square().sum(dim=1)


def known_image(y: Tensor, level: Level[float], one: Tensor) -> Tensor:
    """The denoiser that knows the image: 1."""
    return one.expand_as(y)


def normal(mean: Tensor, std: Tensor) -> Linear:
    """Return the exact denoiser of N(mean, std^2), each (B, 1)."""

    def denoiser(y: Tensor, level: Level[float], one: Tensor) -> Tensor:
        gain = level.alpha * std**2 / (level.alpha**2 * std**2 + level.sigma**2)
        return mean * one + gain * (y - level.alpha * mean * one)

    return denoiser
