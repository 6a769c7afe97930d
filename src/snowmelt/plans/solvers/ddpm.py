"""Ancestral sampling (Ho, Jain and Abbeel 2020, https://arxiv.org/abs/2006.11239)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import first_order_step, ratio
from snowmelt.plans.plan import Plan, Row

__all__ = ["ddpm"]


def ddpm(schedule: NoiseSchedule, times: Sequence[float]) -> Plan:
    """Return the plan that draws each state from the posterior q(x_t | x_s, x0) (DDPM eq. 6 and 7).

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.

    >>> from snowmelt.core import RectifiedFlow
    >>> ddpm(RectifiedFlow(), [1.0, 0.5, 0.0])
    <Plan ddpm: 2 evaluations, t = 1 -> 0, stochastic, on x0>
    """
    levels = [schedule(t) for t in times]
    # The posterior is the reverse SDE (tau = 1) with the image held fixed: decay = e^{-h}
    rows = tuple(Row(s, first_order_step(s, t, decay=ratio(s, t))) for s, t in pairwise(levels))
    return Plan(rows, levels[-1], name="ddpm")
