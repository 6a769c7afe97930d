"""The midpoint rule in log sigma: k-diffusion's DPM2, after DPM-Solver-2 (Lu et al. 2022) and EDM.

In the frame x / alpha, with n = sigma / alpha, an Euler step goes to n_mid = sqrt(n_s n_t), half way in lam,
and the slope found there carries the whole step:

    x_t = x_s + (n_t - n_s) (x_mid - D(x_mid)) / n_mid.

The ancestral form does so down to n_down and comes up to n_t by fresh noise, as `euler_ancestral` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import first_order_step, out_of_frame, ratio
from snowmelt.plans.plan import Combination, Plan, Row

__all__ = ["dpm2", "dpm2_ancestral"]


def dpm2(schedule: NoiseSchedule, times: Sequence[float]) -> Plan:
    """Return the midpoint rule's plan on `times`: two evaluations a step, one at an infinite lam.

    Args:
        schedule: any; it is asked for levels between the given times.
        times: strictly falling, from the first evaluation to the result.

    >>> from snowmelt.core import VE
    >>> plan = dpm2(VE(rho=1.0), [0.5, 0.125, 0.0])  # sigma = 40, 10, 0
    >>> [round(level.sigma, 9) for level in plan.levels]
    [40.0, 20.0, 10.0, 0.0]
    """
    return replace(dpm2_ancestral(schedule, times, eta=0.0), name="dpm2")


def dpm2_ancestral(schedule: NoiseSchedule, times: Sequence[float], *, eta: float = 1.0) -> Plan:
    """Return the plan that steps down to n_down by the midpoint rule and up again to n_t by fresh noise.

    Args:
        schedule: any; it is asked for levels between the given times.
        times: strictly falling, from the first evaluation to the result.
        eta: in [0, 1], the share of fresh noise; 0 is `dpm2`.

    >>> from snowmelt.core import VE
    >>> dpm2_ancestral(VE(), [1.0, 0.5, 0.0])
    <Plan dpm2_ancestral: 3 evaluations, t = 1 -> 0, stochastic, on x0>
    """
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta must lie in [0, 1] (0 is deterministic, dpm2), got {eta}")
    levels = [schedule(t) for t in times]
    rows: list[Row] = []
    for s, t in pairwise(levels):
        # n_down = decay n_t, n_up = sqrt(1 - decay^2) n_t; as DDIM eq. 16
        decay = math.sqrt(1 - eta**2 * (1 - ratio(s, t) ** 2))
        rows += _step(schedule, s, t, decay)
    return Plan(tuple(rows), levels[-1], order=2, name="dpm2_ancestral")


def _step(schedule: NoiseSchedule, s: Level[float], t: Level[float], decay: float) -> tuple[Row, ...]:
    """Return the rows from s to t; the base state is kept in x."""
    if s.alpha == 0 or t.sigma == 0:  # n_s is infinite, or n_mid is 0
        return (Row(s, first_order_step(s, t, decay)),)
    n_s, n_t = s.sigma / s.alpha, t.sigma / t.alpha
    middle = schedule(schedule.t_of_lam((s.lam + t.lam - math.log(decay)) / 2))
    per_slope = (decay * n_t - n_s) * middle.alpha / middle.sigma
    whole = Combination(x=1.0, y=per_slope, m=(-per_slope,), z=n_t * math.sqrt(1 - decay**2))
    return (
        Row(s, first_order_step(s, middle), correct=Combination(y=1.0)),
        Row(middle, out_of_frame(whole, to=t.alpha, x=s.alpha, y=middle.alpha)),
    )
