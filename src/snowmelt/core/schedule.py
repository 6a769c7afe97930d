"""Noise schedules: how much image and how much noise there is at each time.

A schedule maps a time t in [0, 1] to a `Level` (t, alpha_t, sigma_t) and back from the half log
signal-to-noise ratio lam = log(alpha / sigma), which falls strictly from inf at t = 0 to its lowest value
at t = 1:

    x_t = alpha_t * x0 + sigma_t * eps.

The ends are exact: t = 0 is the clean image (sigma = 0), and where a schedule ends in pure noise
(rectified flow, cosine, zero-terminal-SNR), alpha is 0 at t = 1, not a small number.

A discrete DDPM is the same line with its trained indices as points on it: index k of T lies at
t = (k + 1) / T, so that t = 0 is the image before the first noise was added.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from functools import cached_property
from typing import overload

import torch
from torch import Tensor

from snowmelt.core.level import Level, Number
from snowmelt.core.times import TIMES

__all__ = ["NoiseSchedule"]


class NoiseSchedule(ABC):
    """Abstract: a strictly decreasing signal-to-noise ratio over t in [0, 1].

    Calling it with a float gives a `Level` of floats computed in float64; with a tensor, a `Level` of
    tensors of that shape and dtype. A subclass states three tensor formulas.

    Attributes:
        t_min, t_max: the times between which lam is finite and worth stepping through: grids that are
            uniform in lam or sigma put their points there.
        num_timesteps: the number of trained indices, or None where time is continuous.
        time: what its networks are told, a key of `snowmelt.core.times.TIMES`.
        usual_prediction: the parameterization that its paper trains, a key of `PARAMETERIZATIONS`.
    """

    t_min: float
    t_max: float = 1.0
    num_timesteps: int | None = None
    time: str = "1000t"  # so that embeddings made for a thousand indices fit
    usual_prediction: str = "v"

    @abstractmethod
    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _t_of_lam(self, lam: Tensor) -> Tensor: ...

    def __repr__(self) -> str:
        """Return the call of the class with its arguments, as far as attributes keep them."""
        names = [name for name in inspect.signature(type(self)).parameters if hasattr(self, name)]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def network_time(self, level: Level[Number]) -> Number:
        """Return what a network trained on this schedule is told about `level`."""
        told: Number = TIMES[self.time](self, level)
        return told

    @abstractmethod
    def draw_t(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `num` training times, float64 on the CPU, as the schedule's paper draws them."""

    @overload
    def __call__(self, t: float) -> Level[float]: ...
    @overload
    def __call__(self, t: Tensor) -> Level[Tensor]: ...
    def __call__(self, t: float | Tensor) -> Level[float] | Level[Tensor]:
        """Return the level at time `t` in [0, 1]; a float outside that range is a ValueError."""
        if isinstance(t, Tensor):
            return Level(t, *self._alpha_sigma(t))
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"t must lie in [0, 1] (0 is clean, 1 is noise), got {t}")
        alpha, sigma = self._alpha_sigma(torch.tensor(t, dtype=torch.float64))
        return Level(float(t), alpha.item(), sigma.item())

    @overload
    def t_of_lam(self, lam: float) -> float: ...
    @overload
    def t_of_lam(self, lam: Tensor) -> Tensor: ...
    def t_of_lam(self, lam: float | Tensor) -> float | Tensor:
        """Return the time at which log(alpha / sigma) is `lam`: the inverse of ``schedule(t).lam``.

        A float below the schedule's noisiest level is a ValueError; a tensor is clamped there.
        """
        if isinstance(lam, Tensor):
            return self._t_of_lam(lam).clamp(0.0, 1.0)
        lowest = self._lowest_lam
        if lam < lowest - 1e-9 * max(1.0, abs(lowest)):
            raise ValueError(f"lam must be at least {lowest:.6g}, its value at t = 1, got {lam:.6g}")
        return self.t_of_lam(torch.tensor(max(lam, lowest), dtype=torch.float64)).item()

    @cached_property
    def _lowest_lam(self) -> float:
        return self(1.0).lam
