"""DPM-Solver++(2S) (Lu et al. 2022b, https://arxiv.org/abs/2211.01095, algorithm 1): the midpoint in lam.

A step of first order goes half way in lam, and the image found there serves for the whole step: it is the
formula of `snowmelt.plans.builder` with D held at its value in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import TO_BASE, ancestral_decay, between, first_order_step, from_base
from snowmelt.plans.plan import Plan, Row

__all__ = ["dpmpp_2s"]


def dpmpp_2s(schedule: NoiseSchedule, times: Sequence[float], *, eta: float = 0.0) -> Plan:
    """Return DPM-Solver++(2S)'s plan: each step looks once at its beginning and once half way in lam.

    It takes two evaluations a step, one where lam is infinite at either end.

    Args:
        schedule: any; it is asked for levels between the given times.
        times: strictly falling, from the first evaluation to the result.
        eta: share of fresh noise, in [0, 1]: 0 is deterministic; above, a step ends lower and fresh noise
            lifts the state back (k-diffusion's `dpmpp_2s_ancestral`).

    >>> from snowmelt.core import RectifiedFlow
    >>> dpmpp_2s(RectifiedFlow(), [0.9, 0.5, 0.0])
    <Plan dpmpp_2s: 3 evaluations, t = 0.9 -> 0, deterministic, on x0>
    """
    levels = [schedule(t) for t in times]
    rows: list[Row] = []
    for s, t in pairwise(levels):
        decay = ancestral_decay(s, t, eta)
        step = first_order_step(s, t, decay)
        if math.isinf(s.lam) or math.isinf(t.lam):
            rows.append(Row(s, step))
            continue
        middle = between(schedule, s, t, 0.5, decay)
        rows.append(Row(s, first_order_step(s, middle), correct=TO_BASE))
        rows.append(Row(middle, from_base(step)))
    return Plan(tuple(rows), levels[-1], order=2, name="dpmpp_2s")
