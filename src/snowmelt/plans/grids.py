"""Time grids: where a plan evaluates the network.

A grid is a function ``(schedule, steps, **options) -> times``: a tuple of steps + 1 numbers in [0, 1] that
falls strictly from the first evaluation to 0, the clean image. A new grid is one function and one line in
`GRIDS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from snowmelt.core import DiscreteSchedule, NoiseSchedule

__all__ = ["GRIDS", "Grid", "karras", "leading", "linspace", "trailing", "uniform_lam", "uniform_t"]

Times = tuple[float, ...]
Grid = Callable[..., Times]


def uniform_t(schedule: NoiseSchedule, steps: int) -> Times:
    """Even steps in t, from 1 to 0.

    >>> from snowmelt.core import RectifiedFlow
    >>> uniform_t(RectifiedFlow(), 4)
    (1.0, 0.75, 0.5, 0.25, 0.0)
    """
    return _times(np.linspace(1.0, 0.0, steps + 1)[:-1])


def leading(schedule: NoiseSchedule, steps: int) -> Times:
    """Every (T // steps)-th trained index, counted from index 0 (DDIM's and diffusers' `leading`).

    It never visits the noisiest levels; `trailing` does (Lin et al. 2024, section 3.3).

    >>> from snowmelt.core import make_betas
    >>> schedule = DiscreteSchedule(make_betas(num_timesteps=10))
    >>> leading(schedule, 5)
    (0.9, 0.7, 0.5, 0.3, 0.1, 0.0)
    """
    schedule = _trained(schedule, steps, "leading")
    index = np.arange(steps)[::-1] * (schedule.num_timesteps // steps)
    return _of_index(schedule, index)


def trailing(schedule: NoiseSchedule, steps: int) -> Times:
    """Every (T / steps)-th trained index, from the last down; even steps in t where time is continuous.

    >>> from snowmelt.core import make_betas
    >>> schedule = DiscreteSchedule(make_betas(num_timesteps=10))
    >>> trailing(schedule, 5)
    (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
    """
    if not isinstance(schedule, DiscreteSchedule):
        return uniform_t(schedule, steps)
    schedule = _trained(schedule, steps, "trailing")
    index = np.round(np.arange(steps, 0, -1) * schedule.num_timesteps / steps) - 1
    return _of_index(schedule, index)


def linspace(schedule: NoiseSchedule, steps: int) -> Times:
    """Trained indices spread evenly from the last to the first, both ends included.

    >>> from snowmelt.core import make_betas
    >>> schedule = DiscreteSchedule(make_betas(num_timesteps=10))
    >>> linspace(schedule, 4)
    (1.0, 0.7, 0.4, 0.1, 0.0)
    """
    schedule = _trained(schedule, steps, "linspace")
    if steps == 1:
        return _of_index(schedule, np.array([schedule.num_timesteps - 1]))
    return _of_index(schedule, np.round(np.linspace(0, schedule.num_timesteps - 1, steps))[::-1])


def uniform_lam(schedule: NoiseSchedule, steps: int) -> Times:
    """Even steps in lam between the schedule's finite ends, then the clean image (DPM-Solver's `logSNR`).

    >>> from snowmelt.core import LinearVP
    >>> schedule = LinearVP()
    >>> lam = [schedule(t).lam for t in uniform_lam(schedule, 4)]
    >>> [round(b - a, 3) for a, b in zip(lam, lam[1:])]
    [3.194, 3.194, 3.194, inf]
    """
    first, last = schedule(schedule.t_max).lam, schedule(schedule.t_min).lam
    return _between_ends(schedule, np.linspace(first, last, steps))


def karras(schedule: NoiseSchedule, steps: int, rho: float = 7.0) -> Times:
    """Noise levels sigma/alpha that are even in their rho-th root (Karras et al. 2022, eq. 5).

    Args:
        schedule: any.
        steps: number of evaluations, >= 1.
        rho: how strongly the levels crowd towards small noise, > 0; EDM's is 7.

    >>> from snowmelt.core import VE
    >>> schedule = VE()
    >>> [round(schedule(t).sigma, 3) for t in karras(schedule, 5)]
    [80.0, 17.528, 2.515, 0.17, 0.002, 0.0]
    """
    if not rho > 0:
        raise ValueError(f"rho must be positive, got {rho}")
    first, last = (math.exp(-schedule(t).lam / rho) for t in (schedule.t_max, schedule.t_min))
    return _between_ends(schedule, -rho * np.log(np.linspace(first, last, steps)))


GRIDS: dict[str, Grid] = {
    "trailing": trailing,
    "leading": leading,
    "linspace": linspace,
    "uniform_t": uniform_t,
    "uniform_lam": uniform_lam,
    "karras": karras,
}


def _times(times: Sequence[float] | np.ndarray) -> Times:
    return (*(float(t) for t in times), 0.0)


def _of_index(schedule: DiscreteSchedule, index: np.ndarray) -> Times:
    return _times([schedule.t_of_index(float(k)) for k in index])


def _between_ends(schedule: NoiseSchedule, lam: np.ndarray) -> Times:
    """Return the times of `lam`; the first is t = 1, where the state is drawn, whatever lam is there."""
    return _times([1.0, *(schedule.t_of_lam(float(value)) for value in lam[1:])])


def _trained(schedule: NoiseSchedule, steps: int, grid: str) -> DiscreteSchedule:
    if not isinstance(schedule, DiscreteSchedule):
        raise ValueError(f"grid {grid!r} counts trained indices, and {schedule!r} has none: take uniform_t")
    if steps > schedule.num_timesteps:
        raise ValueError(f"steps must be at most {schedule.num_timesteps}, the trained indices, got {steps}")
    return schedule
