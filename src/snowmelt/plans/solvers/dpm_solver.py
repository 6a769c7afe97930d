"""DPM-Solver (Lu et al. 2022a, https://arxiv.org/abs/2206.00927): exponential integrators on the noise.

The ODE in eps (eq. 3.4) over a step from s to t, h = lam_t - lam_s, for eps = e + theta e' + theta^2 e'' with
theta = (lam - lam_s) / h, moves the state to

    x_t = (alpha_t/alpha_s) x_s - sigma_t h (phi_1(h) e + phi_2(h) e' + 2 phi_3(h) e'').

The multistep methods of its code take value, slope and curvature from the last `order` outputs; the
singlestep methods of the paper spend `order` evaluations on a step, of which the later ones lie inside it.
Either way the points are those of the given grid: one that is even in lam gives the paper's r_1 = 1/2
(order 2) and r_1 = 1/3, r_2 = 2/3 (order 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import first_order_step, plan_on_eps, step_order
from snowmelt.plans.plan import Combination, Plan, Row
from snowmelt.plans.solvers.dpmpp import SolverType, check_solver_type, moments, taylor_weights

__all__ = ["dpm_solver"]


def dpm_solver(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    order: int = 2,
    singlestep: bool = False,
    solver_type: SolverType = "midpoint",
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
        solver_type: weighs the slope with phi_1 / 2 (``midpoint``) or with phi_2 (``heun``). A singlestep of
            order 3 takes its slope from its ends (``midpoint``, the paper's algorithm 2, third order where
            r_2 = 2/3) or puts a parabola through its three outputs (``heun``).
        as_published: weigh the curvature of a multistep as `dpmpp_3m` does: the third order is then a second.
        lower_order_final: let no step have a higher order than there are evaluations left.

    >>> from snowmelt.core import LinearVP
    >>> dpm_solver(LinearVP(), [1.0, 0.6, 0.3, 0.0])
    <Plan dpm_solver: 3 evaluations, t = 1 -> 0, deterministic, on eps>
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order of DPM-Solver must be 1, 2 or 3, got {order}")
    check_solver_type(solver_type)
    levels = [schedule(t) for t in times]
    if singlestep:
        rows = _singlesteps(levels, order, solver_type, lower_order_final)
        return plan_on_eps(rows, levels[-1], order, "dpm_solver")
    rows = _multisteps(levels, order, solver_type, as_published, lower_order_final)
    return plan_on_eps(rows, levels[-1], min(order, 2) if as_published else order, "dpm_solver")


def _multisteps(
    levels: Sequence[Level[float]],
    order: int,
    solver_type: SolverType,
    as_published: bool,
    lower_order_final: bool,
) -> list[Row]:
    rows = []
    for i, (s, t) in enumerate(pairwise(levels)):
        step = _first_order(s, t)
        k = step_order(levels, i, order, lower_order_final)
        if k > 1:
            kind: SolverType = "heun" if k == 3 else solver_type
            step = step._replace(m=_weights(t, levels[i + 1 - k : i + 1][::-1], kind, as_published))
        rows.append(Row(s, step))
    return rows


def _singlesteps(
    levels: Sequence[Level[float]], order: int, solver_type: SolverType, lower_order_final: bool
) -> list[Row]:
    rows = []
    for block in _blocks(levels, order, lower_order_final):
        s, *stages = block
        rows.append(Row(s, _first_order(s, stages[0]), correct=Combination(y=1.0)))
        for k, (stage, t) in enumerate(pairwise(stages), start=2):
            if k == 3 and solver_type == "midpoint":
                # DPM-Solver algorithm 2, last line: the slope over the whole of r_2, weighed with phi_2
                of_s, of_last = _weights(t, [s, stage], "heun")
                m: tuple[float, ...] = (of_last, 0.0, of_s)
            else:
                m = _weights(t, block[:k], solver_type)[::-1]
            rows.append(Row(stage, Combination(x=t.alpha / s.alpha, m=m)))
    return rows


def _first_order(s: Level[float], t: Level[float]) -> Combination:
    # Out of pure noise only the image knows the way: see `plan_on_eps`
    return first_order_step(s, t, quantity="x0" if s.alpha == 0 else "eps")


def _weights(
    t: Level[float], nodes: Sequence[Level[float]], solver_type: SolverType, as_published: bool = False
) -> tuple[float, ...]:
    """Return the weights of the noises at `nodes`, of which the first is s, in the step from s to t."""
    s = nodes[0]
    h = t.lam - s.lam
    factors = moments(h, len(nodes), solver_type, as_published)
    weights = taylor_weights(h, factors, [(node.lam - s.lam) / h for node in nodes])
    return tuple(t.sigma * weight for weight in weights)


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
