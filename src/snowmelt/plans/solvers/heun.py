"""Heun's method: an Euler step, and a second one with the mean of the slopes at both of its ends.

A frame divides the state by a scale and measures the noise by a coordinate n, so that the probability flow is

    d(x_t / scale) / dn = (x_t / scale - D(x_t)) / n.

Two frames have this form:

    sigma:  scale = alpha,          n = sigma / alpha             EDM's (Karras et al. 2022, eq. 1 and 3)
    u:      scale = alpha + sigma,  n = sigma / (alpha + sigma)   a rectified flow's, 1 at pure noise

In `u` the slope is eps - x0, the velocity of the straight line, and a step out of pure noise is of second
order like any other; in `sigma` it is Euler's, as the step into the clean image is in both.

EDM's stochastic sampler raises the noise level before each such step: in the frame of `sigma` by adding
noise of variance n_up^2 - n_t^2. In the table this belongs to the row that arrives at n_t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import first_order_step, out_of_frame
from snowmelt.plans.plan import Combination, Plan, Row

__all__ = ["COORDINATES", "edm_stochastic", "heun"]

Scale = Callable[[Level[float]], float]

COORDINATES: dict[str, Scale] = {
    "sigma": lambda level: level.alpha,
    "u": lambda level: level.alpha + level.sigma,
}


def heun(schedule: NoiseSchedule, times: Sequence[float], *, coordinate: str = "sigma") -> Plan:
    """Return Heun's plan on `times`: two evaluations a step, one where the step is Euler's.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        coordinate: a key of `COORDINATES`, in which the slopes are averaged: ``sigma`` or ``u``.

    >>> from snowmelt.core import RectifiedFlow
    >>> heun(RectifiedFlow(), [1.0, 0.5, 0.0])
    <Plan heun: 2 evaluations, t = 1 -> 0, deterministic, on x0>
    >>> heun(RectifiedFlow(), [1.0, 0.5, 0.0], coordinate="u")
    <Plan heun: 3 evaluations, t = 1 -> 0, deterministic, on x0>
    """
    if coordinate not in COORDINATES:
        raise ValueError(f"coordinate must be one of {', '.join(COORDINATES)}, got {coordinate!r}")
    levels = [schedule(t) for t in times]
    rows = [row for s, t in pairwise(levels) for row in _step(s, t, COORDINATES[coordinate])]
    return Plan(tuple(rows), levels[-1], order=2, name="heun")


def edm_stochastic(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    churn: float = 40.0,
    s_min: float = 0.05,
    s_max: float = 50.0,
    s_noise: float = 1.0,
) -> Plan:
    """Return the plan that raises the noise level before every Heun step (Karras et al. 2022, algorithm 2).

    Two ends differ from the paper's loop. The first state is drawn by the caller and is not raised: that
    would only draw it elsewhere. And no level is raised above t = 1, where the network knows nothing.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        churn: S_churn >= 0, the raise of all steps together; 0 is `heun`.
        s_min, s_max: the levels sigma/alpha between which the noise is raised, 0 <= s_min <= s_max.
        s_noise: standard deviation of the fresh noise, > 0; a little above 1 (the paper takes 1.003 to 1.007)
            makes up for denoisers that remove too much.

    >>> from snowmelt.core import VE
    >>> edm_stochastic(VE(), [1.0, 0.8, 0.5, 0.0])
    <Plan edm_stochastic: 5 evaluations, t = 1 -> 0, stochastic, on x0>
    """
    if not 0.0 <= churn < math.inf:
        raise ValueError(f"churn must be finite and at least 0 (which is heun), got {churn}")
    if not 0.0 <= s_min <= s_max:
        raise ValueError(f"0 <= s_min <= s_max is needed, got {s_min} and {s_max}")
    if not 0.0 < s_noise < math.inf:
        raise ValueError(f"s_noise must be positive and finite (1 keeps the variance), got {s_noise}")
    # Line 4: gamma = min(S_churn / N, sqrt(2) - 1) within [S_tmin, S_tmax]
    gamma = min(churn / (len(times) - 1), math.sqrt(2) - 1)

    s, *rest = levels = [schedule(t) for t in times]
    rows: list[Row] = []
    for t in rest:
        inside = t is not levels[-1] and s_min * t.alpha <= t.sigma <= s_max * t.alpha
        up = _higher(schedule, t, gamma) if inside else t
        *first, last = _step(s, t, COORDINATES["sigma"])
        rows += [*first, last._replace(advance=_raise(last.advance, t, up, s_noise))]
        s = up
    return Plan(tuple(rows), s, order=2, name="edm_stochastic")


def _step(s: Level[float], t: Level[float], scale: Scale) -> tuple[Row, ...]:
    """Return the rows from s to t; the base state is kept in x."""
    first = first_order_step(s, t)
    if scale(s) == 0 or t.sigma == 0:  # n_s is infinite, or the slope at n_t is 0/0
        return (Row(s, first),)
    n_s, n_t = s.sigma / scale(s), t.sigma / scale(t)
    half = (n_t - n_s) / 2
    # Algorithm 1, line 8: x_t = x_s + (n_t - n_s) (d_s + d_t) / 2, with the slopes d = (x - D) / n
    mean = Combination(x=1 + half / n_s, y=half / n_t, m=(-half / n_t, -half / n_s))
    return (
        Row(s, first, correct=Combination(y=1.0)),
        Row(t, out_of_frame(mean, to=scale(t), x=scale(s), y=scale(t))),
    )


def _higher(schedule: NoiseSchedule, level: Level[float], gamma: float) -> Level[float]:
    """Return the level at (1 + gamma) times the noise, at most that of t = 1."""
    if gamma == 0:
        return level
    return schedule(schedule.t_of_lam(max(level.lam - math.log1p(gamma), schedule(1.0).lam)))


def _raise(combination: Combination, t: Level[float], up: Level[float], s_noise: float) -> Combination:
    """Return a combination that arrives at t, made to arrive at `up` with noise added on the way."""
    # Algorithm 2, line 6: x_up = x_t + sqrt(n_up^2 - n_t^2) S_noise z, in the frame x / alpha
    gain = up.alpha / t.alpha
    missing = max(0.0, up.sigma**2 - (gain * t.sigma) ** 2)
    return out_of_frame(combination, to=gain)._replace(z=s_noise * math.sqrt(missing))
