"""DPM-Solver (Lu et al. 2022a, https://arxiv.org/abs/2206.00927): exponential integrators on the noise.

The formula of `snowmelt.plans.builder` on eps (their eq. 3.4), with a polynomial in lam. The multistep
methods of their code put it through the last `order` outputs; the singlestep methods of the paper spend
`order` evaluations on a step, of which the later ones lie inside it. Either way the points are those of the
given grid: one that is even in lam gives the paper's r_1 = 1/2 (order 2) and r_1 = 1/3, r_2 = 2/3 (order 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import (
    TO_BASE,
    claimed_order,
    from_base,
    multistep_rows,
    multistep_step,
    multistep_weights,
    slope_of,
)
from snowmelt.plans.moments import Slope
from snowmelt.plans.plan import Combination, Plan, Row
from snowmelt.plans.unrolling import plan_on_eps

__all__ = ["dpm_solver"]


def dpm_solver(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    order: int = 2,
    singlestep: bool = False,
    solver_type: Literal["midpoint", "heun"] = "midpoint",
    as_published: bool = True,
    lower_order_final: bool = False,
) -> Plan:
    """Return DPM-Solver's plan: one evaluation at each of `times` but the last.

    Into or out of an infinite lam it takes a first-order step.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        order: 1 (DDIM), 2 or 3.
        singlestep: spend `order` evaluations on one step instead of looking back at past ones.
        solver_type: weighs the slope with M_0 / 2 (``midpoint``) or with M_1 (``heun``). A singlestep of
            order 3 takes its slope from its ends (``midpoint``, the paper's algorithm 2, third order where
            r_2 = 2/3) or puts a parabola through its three outputs (``heun``).
        as_published: weigh the curvature of a multistep as `dpmpp_3m` does: the third order is then a second.
        lower_order_final: let the order fall to 1 over the last steps.

    >>> from snowmelt.core import LinearVP
    >>> dpm_solver(LinearVP(), [1.0, 0.6, 0.3, 0.0])
    <Plan dpm_solver: 3 evaluations, t = 1 -> 0, deterministic, on eps>
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order of DPM-Solver must be 1, 2 or 3, got {order}")
    slope, curvature = slope_of(solver_type), 0.5 if as_published and not singlestep else 1.0
    levels = [schedule(t) for t in times]
    claim = claimed_order(order, lower_order_final=lower_order_final)
    if singlestep:
        blocks = _blocks(levels, order, lower_order_final)
        rows = tuple(row for block in blocks for row in _singlestep(block, slope))
    else:
        step = partial(multistep_step, quantity="eps", slope=slope, curvature=curvature)
        rows = multistep_rows(levels, step, order, lower_order_final=lower_order_final)
        claim = min(claim, 2) if as_published else claim
    return plan_on_eps(rows, levels[-1], claim, "dpm_solver")


def _singlestep(block: Sequence[Level[float]], slope: Slope) -> list[Row]:
    """Return the rows of a step from the first to the last level, with an evaluation at all but the last."""
    s, *stages = block
    lam = [level.lam for level in block]
    rows = [Row(s, multistep_step(s, stages[0], lam[:1], quantity="eps"), correct=TO_BASE)]
    for k, (stage, t) in enumerate(pairwise(stages), start=2):
        if k == 3 and slope == "midpoint":
            # Algorithm 2, last line: the slope is that over the whole of r_2
            of_s, of_last = multistep_weights(s, t, [s.lam, stage.lam], quantity="eps")
            m: tuple[float, ...] = (of_last, 0.0, of_s)
        else:
            m = multistep_weights(s, t, lam[:k][::-1], quantity="eps", slope=slope)
        rows.append(Row(stage, from_base(Combination(y=t.alpha / s.alpha, m=m))))
    return rows


def _blocks(
    levels: Sequence[Level[float]], order: int, lower_order_final: bool
) -> list[Sequence[Level[float]]]:
    """Cut the grid into steps of `order` evaluations: one next to an infinite lam, fewer where few remain.

    >>> grid = [Level(t, 1 - t, t) for t in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)]
    >>> [[level.t for level in block] for block in _blocks(grid, 2, lower_order_final=True)]
    [[1.0, 0.8], [0.8, 0.6, 0.4], [0.4, 0.2], [0.2, 0.0]]
    """
    end = len(levels) - 1
    first = int(math.isinf(levels[0].lam))
    last = end - (lower_order_final or math.isinf(levels[-1].lam))
    cuts = sorted({0, *range(first, last, order), last, end})
    return [levels[start : stop + 1] for start, stop in pairwise(cuts)]
