"""Heun's method: an Euler step, and a second one with the mean of the slopes at both of its ends.

A frame divides the state by a scale and measures the noise by a coordinate n, so that the probability flow is

    d(x_t / scale) / dn = (x_t / scale - D(x_t)) / n.

Two frames have this form:

    sigma:  scale = alpha,          n = sigma / alpha             EDM's (Karras et al. 2022, eq. 1 and 3)
    u:      scale = alpha + sigma,  n = sigma / (alpha + sigma)   a rectified flow's, 1 at pure noise

In `u` the slope is eps - x0, the velocity of the straight line, and a step out of pure noise is of second
order like any other; in `sigma` it is Euler's, as the step into the clean image is in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import TO_BASE, first_order_step, out_of_frame
from snowmelt.plans.plan import Combination, Plan, Row

__all__ = ["heun", "heun_step"]

Frame = Literal["sigma", "u"]


def heun(schedule: NoiseSchedule, times: Sequence[float], *, coordinate: Frame = "sigma") -> Plan:
    """Return Heun's plan on `times`: two evaluations a step, one where the step is Euler's.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        coordinate: the frame in which the slopes are averaged, ``sigma`` or ``u``.

    >>> from snowmelt.core import RectifiedFlow
    >>> heun(RectifiedFlow(), [1.0, 0.5, 0.0])
    <Plan heun: 2 evaluations, t = 1 -> 0, deterministic, on x0>
    >>> heun(RectifiedFlow(), [1.0, 0.5, 0.0], coordinate="u")
    <Plan heun: 3 evaluations, t = 1 -> 0, deterministic, on x0>
    """
    if coordinate not in get_args(Frame):
        raise ValueError(f"coordinate must be one of {', '.join(get_args(Frame))}, got {coordinate!r}")
    levels = [schedule(t) for t in times]
    rows = tuple(row for s, t in pairwise(levels) for row in heun_step(s, t, coordinate))
    return Plan(rows, levels[-1], order=2, name="heun")


def heun_step(s: Level[float], t: Level[float], frame: Frame = "sigma") -> list[Row]:
    """Return the rows of a step from s to t; the base state is kept in x.

    >>> [row.level.t for row in heun_step(Level(0.5, 0.6, 0.8), Level(0.4, 0.8, 0.6))]
    [0.5, 0.4]
    """
    scale_s, scale_t = (level.alpha + level.sigma * (frame == "u") for level in (s, t))
    first = first_order_step(s, t)
    if scale_s == 0 or t.sigma == 0:  # n_s is infinite, or the slope at n_t is 0/0
        return [Row(s, first)]
    n_s, n_t = s.sigma / scale_s, t.sigma / scale_t
    half = (n_t - n_s) / 2
    # Karras et al. 2022, algorithm 1, line 8: x_t = x_s + (n_t - n_s) (d_s + d_t) / 2, slopes d = (x - D) / n
    mean = Combination(x=1 + half / n_s, y=half / n_t, m=(-half / n_t, -half / n_s))
    return [
        Row(s, first, correct=TO_BASE),
        Row(t, out_of_frame(mean, to=scale_t, x=scale_s, y=scale_t)),
    ]
