"""The midpoint rule in log sigma: k-diffusion's DPM2, after DPM-Solver-2 (Lu et al. 2022) and EDM.

In the frame x / alpha, with n = sigma / alpha, an Euler step goes to n_mid = sqrt(n_s n_t), half way in lam,
and the slope found there carries the whole step:

    x_t = x_s + (n_t - n_s) (x_mid - D(x_mid)) / n_mid.

The ancestral form does so down to n_down and comes up to n_t by fresh noise, with the eta of `ddim`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import TO_BASE, ancestral_decay, between, first_order_step, out_of_frame
from snowmelt.plans.plan import Combination, Plan, Row

__all__ = ["dpm2"]


def dpm2(schedule: NoiseSchedule, times: Sequence[float], *, eta: float = 0.0) -> Plan:
    """Return the midpoint rule's plan on `times`: two evaluations a step, one at an infinite lam.

    Args:
        schedule: any; it is asked for levels between the given times.
        times: strictly falling, from the first evaluation to the result.
        eta: share of fresh noise, in [0, 1]; 0 is deterministic.

    >>> from snowmelt.core import VE
    >>> plan = dpm2(VE(rho=1.0), [0.5, 0.125, 0.0])  # sigma = 40, 10, 0
    >>> [round(level.sigma, 9) for level in plan.levels]
    [40.0, 20.0, 10.0, 0.0]
    """
    levels = [schedule(t) for t in times]
    rows: list[Row] = []
    for s, t in pairwise(levels):
        decay = ancestral_decay(s, t, eta)  # n_down = decay n_t, n_up = sqrt(1 - decay^2) n_t
        if s.alpha == 0 or t.sigma == 0:  # n_s is infinite, or n_mid is 0
            rows.append(Row(s, first_order_step(s, t, decay)))
            continue
        n_s, n_t = s.sigma / s.alpha, t.sigma / t.alpha
        middle = between(schedule, s, t, 0.5, decay)
        per_slope = (decay * n_t - n_s) * middle.alpha / middle.sigma
        whole = Combination(x=1.0, y=per_slope, m=(-per_slope,), z=n_t * math.sqrt(1 - decay**2))
        rows.append(Row(s, first_order_step(s, middle), correct=TO_BASE))
        rows.append(Row(middle, out_of_frame(whole, to=t.alpha, x=s.alpha, y=middle.alpha)))
    return Plan(tuple(rows), levels[-1], order=2, name="dpm2")
