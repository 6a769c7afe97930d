"""Time grids: where a plan evaluates the network.

A grid is a function ``(schedule, steps, **options) -> times``: a tuple of steps + 1 numbers in [0, 1] that
falls strictly from the first evaluation to 0, the clean image. A new grid is one function and one line in
`GRIDS`. For all other choices `explicit` reads a list of times, noise levels or trained indices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from snowmelt.core import DiscreteSchedule, Level, NoiseSchedule
from snowmelt.text import counted

__all__ = [
    "ALIGNED",
    "GRIDS",
    "TUNED",
    "Grid",
    "ays",
    "explicit",
    "karras",
    "leading",
    "linspace",
    "quadratic",
    "trailing",
    "tuned",
    "tuned_knots",
    "uniform_lam",
    "uniform_t",
]

Times = tuple[float, ...]
Grid = Callable[..., Times]

# Align Your Steps (Sabour, Fidler and Kreis 2024): sigma/alpha of the ten optimised steps, as published
ALIGNED: dict[str, tuple[float, ...]] = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}

# sigma/alpha at five even shares of the way, by number of steps: found by `python benchmarks/knots.py`
TUNED: dict[int, tuple[float, ...]] = {
    5: (34.53, 2.087, 0.8387, 0.1875, 0.04468),
    6: (19.4, 3.687, 1.347, 0.3086, 0.02099),
    8: (22.15, 2.978, 1.196, 0.5032, 0.01689),
    10: (21.75, 2.693, 1.201, 0.3532, 0.0216),
    16: (58.4, 4.061, 1.034, 0.3271, 0.00932),
    20: (58.42, 3.831, 0.9281, 0.2635, 0.00609),
    30: (89.77, 3.988, 0.7638, 0.1788, 0.002486),
}


def uniform_t(schedule: NoiseSchedule, steps: int) -> Times:
    """Even steps in t, from 1 to 0.

    >>> from snowmelt.core import RectifiedFlow
    >>> uniform_t(RectifiedFlow(), 4)
    (1.0, 0.75, 0.5, 0.25, 0.0)
    """
    return _times(np.linspace(1.0, 0.0, steps + 1)[:-1])


def leading(schedule: NoiseSchedule, steps: int, offset: int = 0) -> Times:
    """Every (T // steps)-th trained index, counted from index 0 (DDIM's and diffusers' `leading`).

    It never visits the noisiest levels; `trailing` does (Lin et al. 2024, section 3.3).

    Args:
        schedule: a discrete one.
        steps: number of evaluations, >= 1.
        offset: the index to count from, >= 0 (diffusers' steps_offset).

    >>> from snowmelt.core import make_betas
    >>> schedule = DiscreteSchedule(make_betas(num_timesteps=10))
    >>> leading(schedule, 5)
    (0.9, 0.7, 0.5, 0.3, 0.1, 0.0)
    """
    schedule = _trained(schedule, steps, "leading")
    index = np.arange(steps)[::-1] * (schedule.num_timesteps // steps) + offset
    if not 0 <= offset <= index[0] < schedule.num_timesteps:
        raise ValueError(
            f"offset {offset} puts {counted(steps, 'step')} at the indices {index[-1]}..{index[0]}, and "
            f"there are 0..{schedule.num_timesteps - 1}: take a smaller offset >= 0, or fewer steps"
        )
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


def quadratic(schedule: NoiseSchedule, steps: int, power: float = 2.0) -> Times:
    """Even steps in the square root of t, from 1 to the schedule's last useful time, then the clean image.

    DDIM's `quadratic` on any schedule: the steps shrink in proportion to the root of what is left (DEIS,
    Zhang and Chen 2023, appendix H.3, whose kappa is `power`).

    Args:
        schedule: any.
        steps: number of evaluations, >= 1.
        power: how strongly the times crowd towards the image, > 0; 1 is even in t.

    >>> from snowmelt.core import RectifiedFlow
    >>> [round(t, 3) for t in quadratic(RectifiedFlow(), 4)]
    [1.0, 0.459, 0.126, 0.001, 0.0]
    """
    if not power > 0:
        raise ValueError(f"power must be positive, got {power}")
    return _times(np.linspace(1.0, schedule.t_min ** (1 / power), steps) ** power)


def uniform_lam(schedule: NoiseSchedule, steps: int) -> Times:
    """Even steps in lam between the schedule's finite ends, then the clean image (DPM-Solver's `logSNR`).

    As lam = -log(sigma/alpha), the noise levels fall by one factor a step: k-diffusion's `exponential`.

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


def ays(schedule: NoiseSchedule, steps: int, knots: str | Sequence[float] = "sd15") -> Times:
    """A short list of good noise levels, interpolated in lam to any number of steps (Align Your Steps).

    The list is a shape: it is stretched in lam until its ends meet the schedule's finite ends. On the
    schedule that it was found for, this changes no more than the rounding of the list.

    Args:
        schedule: any.
        steps: number of evaluations, >= 1.
        knots: a key of `ALIGNED`, or at least two falling sigma/alpha, all positive; the last stands where
            the image is.

    >>> from snowmelt.core import VE
    >>> schedule = VE(sigma_min=0.029, sigma_max=14.615)
    >>> [round(schedule(t).sigma, 3) for t in ays(schedule, 5)]
    [14.615, 3.861, 1.886, 0.963, 0.399, 0.0]
    """
    if isinstance(knots, str):
        if knots not in ALIGNED:
            named = ", ".join(ALIGNED)
            raise ValueError(f"knots must be a list of sigma/alpha or one of {named}, got {knots!r}")
        knots = ALIGNED[knots]
    _check_knots(knots)
    # log sigma as a share of the way from the first knot to the last, at evenly spaced knots
    log = np.log(knots)
    share = (log - log[0]) / (log[-1] - log[0])
    at = np.interp(np.linspace(0, 1, steps + 1), np.linspace(0, 1, len(knots)), share)[:-1]
    first, last = schedule(schedule.t_max).lam, schedule(schedule.t_min).lam
    return _between_ends(schedule, first + at * (last - first))


def tuned(schedule: NoiseSchedule, steps: int, knots: Sequence[float] | None = None) -> Times:
    """Noise levels that a search found best, for images of about unit spread: the presets' grid.

    The first evaluation is at the schedule's own highest noise. Those after it lie evenly on a polynomial of
    log(sigma/alpha) through a few knots, and are mapped linearly in u = sigma / (alpha + sigma), which is
    bounded, from 1 and 0 to the schedule's own ends. In u, schedules with a high and with infinite noise at
    t = 1 hardly differ: one list serves all. The knots of `TUNED` minimise errors on exact mixtures and
    Gaussians (``python benchmarks/knots.py``); between its numbers of steps they are interpolated.

    Args:
        schedule: any.
        steps: number of evaluations, >= 1.
        knots: sigma/alpha at even shares of the way, falling and all positive; None takes those of `TUNED`.

    >>> from snowmelt.core import RectifiedFlow
    >>> [round(t, 2) for t in tuned(RectifiedFlow(), 4, knots=[8.0, 1.0, 0.125])]
    [1.0, 0.8, 0.5, 0.2, 0.0]
    """
    knots = tuned_knots(steps) if knots is None else knots
    _check_knots(knots)
    curve = Polynomial.fit(np.linspace(0, 1, len(knots)), np.log(knots), len(knots) - 1)
    share = 1 / (1 + np.exp(-curve((np.arange(1, steps) - 0.5) / max(1, steps - 1))))
    lowest, highest = (level.sigma / (level.alpha + level.sigma) for level in _ends(schedule))
    u = lowest + (highest - lowest) * share
    if not (np.diff(u) < 0).all():
        raise ValueError(
            f"the polynomial through knots {list(knots)} does not fall throughout: even them out"
        )
    return _between_ends(schedule, np.append(math.nan, np.log((1 - u) / u)))


def tuned_knots(steps: int) -> list[float]:
    """Return the knots of `tuned` for any number of steps.

    They are linear between those of `TUNED`, in log(steps) and log(sigma/alpha), and held outside.

    >>> tuned_knots(10) == tuned_knots(11)
    False
    """
    known = sorted(TUNED)
    columns = np.log([TUNED[count] for count in known]).T
    return [math.exp(np.interp(math.log(steps), np.log(known), column)) for column in columns]


def explicit(
    schedule: NoiseSchedule,
    steps: int | None = None,
    *,
    times: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    indices: Sequence[int] | None = None,
) -> Times:
    """The evaluations as they are listed, in exactly one of three ways, then the clean image.

    Args:
        schedule: any; `indices` needs a discrete one.
        steps: None or the number of evaluations listed.
        times: falling, each in [0, 1]; a 0 at the end is the image itself.
        sigmas: the same as falling sigma/alpha; up to a thousandth above the schedule's largest counts as
            that, since published lists are rounded.
        indices: the same as falling trained indices, each in 0 .. T - 1.

    >>> from snowmelt.core import RectifiedFlow
    >>> explicit(RectifiedFlow(), times=[0.9, 0.5])
    (0.9, 0.5, 0.0)
    >>> explicit(RectifiedFlow(), sigmas=[math.inf, 1.0, 0.25, 0.0])
    (1.0, 0.5, 0.2, 0.0)
    """
    lists = {"times": times, "sigmas": sigmas, "indices": indices}
    given = {name: list(values) for name, values in lists.items() if values is not None}
    if len(given) != 1:
        raise ValueError(
            f"exactly one of times, sigmas and indices is needed, got {', '.join(given) or 'none'}"
        )
    ((name, values),) = given.items()
    _check_falling(name, values)
    if name != "indices" and values[-1:] == [0]:
        values = values[:-1]
    if not values:
        raise ValueError(f"{name} must list at least one evaluation before the image")
    if steps is not None and steps != len(values):
        raise ValueError(
            f"steps is {steps}, but {name} lists {counted(len(values), 'evaluation')}: leave steps out"
        )
    return _times([_TIME_OF[name](schedule, value) for value in values])


GRIDS: dict[str, Grid] = {
    "trailing": trailing,
    "leading": leading,
    "linspace": linspace,
    "uniform_t": uniform_t,
    "quadratic": quadratic,
    "uniform_lam": uniform_lam,
    "exponential": uniform_lam,  # even in log(sigma/alpha) is even in lam
    "karras": karras,
    "ays": ays,
    "tuned": tuned,
}


def _of_time(schedule: NoiseSchedule, t: float) -> float:
    return schedule(t).t


def _of_sigma(schedule: NoiseSchedule, sigma: float) -> float:
    lam, lowest = -math.log(sigma) if sigma > 0 else math.nan, schedule(1.0).lam
    if not lam >= lowest - 1e-3:
        raise ValueError(
            f"sigmas (sigma/alpha) must be above 0 and at most {math.exp(-lowest):.6g}, the schedule's "
            f"largest; got {sigma}"
        )
    return schedule.t_of_lam(max(lam, lowest))


def _of_trained_index(schedule: NoiseSchedule, index: float) -> float:
    if not isinstance(schedule, DiscreteSchedule):
        raise ValueError(f"indices count trained steps, and {schedule!r} has none: list times or sigmas")
    if index != int(index) or not 0 <= index < schedule.num_timesteps:
        raise ValueError(f"indices must be integers in 0..{schedule.num_timesteps - 1}, got {index}")
    return schedule.t_of_index(float(index))


_TIME_OF: dict[str, Callable[[NoiseSchedule, float], float]] = {
    "times": _of_time,
    "sigmas": _of_sigma,
    "indices": _of_trained_index,
}


def _check_falling(name: str, values: Sequence[float]) -> None:
    for value, following in pairwise(values):
        if not value > following:
            raise ValueError(
                f"{name} must fall strictly, from noise to image; {value} is followed by {following}"
            )


def _check_knots(knots: Sequence[float]) -> None:
    _check_falling("knots", knots)
    if not (len(knots) > 1 and knots[-1] > 0 and math.isfinite(knots[0])):
        raise ValueError(f"knots must be at least two positive, finite numbers, got {list(knots)}")


def _times(times: Sequence[float] | NDArray[Any]) -> Times:
    return (*(float(t) for t in times), 0.0)


def _of_index(schedule: DiscreteSchedule, index: NDArray[Any]) -> Times:
    return _times([schedule.t_of_index(float(k)) for k in index])


def _ends(schedule: NoiseSchedule) -> tuple[Level[float], Level[float]]:
    """Return the lowest and the highest level of noise."""
    return schedule(schedule.t_min), schedule(1.0)


def _between_ends(schedule: NoiseSchedule, lam: NDArray[Any]) -> Times:
    """Return the times of `lam`; the first is t = 1, where the state is drawn, in place of lam[0]."""
    return _times([1.0, *(schedule.t_of_lam(float(value)) for value in lam[1:])])


def _trained(schedule: NoiseSchedule, steps: int, grid: str) -> DiscreteSchedule:
    if not isinstance(schedule, DiscreteSchedule):
        raise ValueError(f"grid {grid!r} counts trained indices, and {schedule!r} has none: take uniform_t")
    if steps > schedule.num_timesteps:
        raise ValueError(f"steps must be at most {schedule.num_timesteps}, the trained indices, got {steps}")
    return schedule
