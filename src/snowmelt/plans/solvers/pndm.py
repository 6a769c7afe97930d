"""Pseudo numerical methods for diffusion models (Liu et al. 2022, https://arxiv.org/abs/2202.09778).

A classical method for ordinary differential equations is split in two: it averages the noise predictions eps
as if time were even, and DDIM's formula transfers the state along that average (eq. 11),

    x_t = (alpha_t/alpha_s) x_s + (sigma_t - alpha_t sigma_s / alpha_s) e.

Every average of a right eps is right, so the transfer stays on the manifold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import TO_BASE, from_base, mean_weights, transfer
from snowmelt.plans.plan import Plan, Row
from snowmelt.plans.unrolling import plan_on_eps

__all__ = ["pndm"]


def pndm(schedule: NoiseSchedule, times: Sequence[float]) -> Plan:
    """Return PNDM's plan on `times` (its algorithm 2): up to three Runge-Kutta steps, then Adams-Bashforth.

    A Runge-Kutta step evaluates four times, so that n >= 4 steps take n + 9 evaluations. A step out of pure
    noise or to the clean image, where there is no eps to evaluate, is DDIM's. Out of almost pure noise each
    stage magnifies errors of eps by alpha_t / alpha_s: start there with another method, or later.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result; steps even in t are assumed.

    >>> from snowmelt.core import LinearVP
    >>> pndm(LinearVP(), [1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    <Plan pndm: 14 evaluations, t = 1 -> 0, deterministic, on eps>
    """
    levels = [schedule(t) for t in times]
    rows: list[Row] = []
    firsts: list[int] = []  # the rows at the grid's own points, whose outputs the multistep formula looks at
    for i in range(len(levels) - 1):
        s, t = levels[i : i + 2]
        firsts = [*firsts[-3:], len(rows)]
        warm = len(firsts) == 4
        if not warm and s.alpha > 0 and t.sigma > 0:
            rows += _runge_kutta(s, schedule((s.t + t.t) / 2), t)
            continue
        at = [len(rows) - first for first in firsts[::-1]]
        weights = np.zeros(at[-1] + 1)
        weights[at] = mean_weights(range(0, -len(at), -1))  # Adams and Bashforth's, of even steps
        rows.append(Row(s, transfer(s, t, weights.tolist())))
    return plan_on_eps(rows, levels[-1], 2, "pndm")


def _runge_kutta(s: Level[float], middle: Level[float], t: Level[float]) -> list[Row]:
    """Return the four rows of the pseudo Runge-Kutta step; x keeps the state at s."""
    stages = (
        (s, middle, (1.0,)),
        (middle, middle, (1.0,)),
        (middle, t, (1.0,)),
        (t, t, (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
    )
    first, *others = (Row(at, from_base(transfer(s, to, weights))) for at, to, weights in stages)
    return [first._replace(correct=TO_BASE), *others]
