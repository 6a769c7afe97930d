"""Restart sampling (Xu et al. 2023, https://arxiv.org/abs/2306.14878): up and down again.

A deterministic solver runs down the grid. When it has come to the lower end of an interval, enough fresh
noise is added to be back at the upper end, and the solver runs down once more, a few times over. The noise
contracts the errors made so far, while each descent is as accurate as an ODE solver is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.plan import Combination, Plan, Row

__all__ = ["join", "lift", "restart"]


def restart(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    inner: str | Callable[..., Plan] = "ddim",
    inner_options: Mapping[str, Any] | None = None,
    interval: Sequence[float] = (0.1, 0.5),
    repeats: int = 1,
) -> Plan:
    """Return the plan that runs the solver `inner` down `times` and repeats the part inside `interval`.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        inner: a key of `SOLVERS`, or a solver itself.
        inner_options: its options.
        interval: (low, high), each moved to the nearest time of the grid at which there is noise.
        repeats: how often the interval is passed again, >= 0.

    >>> from snowmelt.core import LinearVP
    >>> restart(LinearVP(), [1.0, 0.8, 0.6, 0.4, 0.2, 0.0], interval=(0.2, 0.6), repeats=2)
    <Plan restart: 9 evaluations, t = 1 -> 0, stochastic, on x0>
    """
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 0:
        raise ValueError(f"repeats must be an integer >= 0, got {repeats!r}")
    if len(interval) != 2 or not 0 <= interval[0] < interval[1] <= 1:
        raise ValueError(f"interval must be two times 0 <= low < high <= 1, got {tuple(interval)}")
    solve = partial(find_solver(inner), schedule, **(inner_options or {}))
    noisy = [i for i, t in enumerate(times) if schedule(t).sigma > 0]
    low, high = (min(noisy, key=lambda i: abs(times[i] - end)) for end in interval)
    if low == high or not repeats:  # too coarse a grid to have anything inside
        return _named(solve(times))

    down = solve(times[: low + 1])
    again = solve(times[high : low + 1])
    parts = [down, *[again] * repeats]
    if low < len(times) - 1:
        parts.append(solve(times[low:]))
    return _named(join(parts))


def lift(s: Level[float], t: Level[float]) -> Combination:
    """Return the step up from s to the noisier level t: q(x_t | x_s), as a combination of y and noise.

    >>> lift(Level(0.2, 1.0, 3.0), Level(0.4, 1.0, 5.0))
    Combination(x=0.0, y=1.0, m=(), z=4.0)
    """
    kept = t.alpha / s.alpha
    # Whatever alpha: what the image keeps, the old noise keeps, and the rest of sigma_t^2 is fresh
    return Combination(y=kept, z=math.sqrt(t.sigma**2 - (kept * s.sigma) ** 2))


def join(plans: Sequence[Plan]) -> Plan:
    """Return one plan that runs several in turn; where one starts above the last one's end, noise is added.

    Raises:
        ValueError: they weigh different outputs.

    >>> from snowmelt.core import LinearVP
    >>> from snowmelt.plans.ddim import ddim
    >>> parts = [ddim(LinearVP(), times) for times in ([1.0, 0.5], [0.5, 0.0])]
    >>> join(parts) == ddim(LinearVP(), [1.0, 0.5, 0.0])
    True
    """
    if len({plan.quantity for plan in plans}) > 1:
        raise ValueError(
            "plans on different outputs cannot be joined; where one starts at pure noise (alpha = 0) and is "
            "on x0 for that, start below it or take a solver on x0"
        )
    rows = list(plans[0].rows)
    for before, plan in pairwise(plans):
        first, *others = plan.rows
        if first.level != before.end:
            rows[-1] = rows[-1]._replace(advance=_then(rows[-1].advance, lift(before.end, first.level)))
        rows += [_afresh(first, keeps_x=any(row.advance.x for row in plan.rows)), *others]
    order = min(plan.order for plan in plans)
    return Plan(tuple(rows), plans[-1].end, plans[0].quantity, order, plans[0].name)


def find_solver(solver: str | Callable[..., Plan]) -> Callable[..., Plan]:
    """Return the solver of that name, or what was given if it is one already."""
    if callable(solver):
        return solver
    from snowmelt.plans.solvers import SOLVERS  # the table lists this module's solver, too

    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}. Known: {', '.join(SOLVERS)}")
    return SOLVERS[solver]


def _then(step: Combination, lift: Combination) -> Combination:
    """Return a step followed by a lift; two independent noises make one."""
    x, y, z = lift.y * step.x, lift.y * step.y, math.hypot(lift.y * step.z, lift.z)
    return Combination(x, y, tuple(lift.y * weight for weight in step.m), z)


def _afresh(row: Row, keeps_x: bool) -> Row:
    """Return a plan's first row so that its base state is where the plan starts, whatever ran before."""
    c = row.correct
    return row._replace(correct=c._replace(x=0.0, y=c.x + c.y)) if keeps_x else row


def _named(plan: Plan) -> Plan:
    return Plan(plan.rows, plan.end, plan.quantity, plan.order, "restart")
