"""Several plans as one: end to start, with fresh noise where the next one starts at a noisier level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from snowmelt.core import Level
from snowmelt.plans.plan import Combination, Plan, Row
from snowmelt.plans.unrolling import unrolled

__all__ = ["join", "lift"]


def lift(s: Level[float], t: Level[float]) -> Combination:
    """Return the step up from s to the noisier level t: q(x_t | x_s), as a combination of y and noise.

    >>> lift(Level(0.2, 1.0, 3.0), Level(0.4, 1.0, 5.0))
    Combination(x=0.0, y=1.0, m=(), z=4.0)
    """
    kept = t.alpha / s.alpha
    # Image and old noise keep the same share; the rest of sigma_t^2 is fresh
    return Combination(y=kept, z=math.sqrt(t.sigma**2 - (kept * s.sigma) ** 2))


def join(plans: Sequence[Plan]) -> Plan:
    """Return one plan that runs several in turn; where one starts above the last one's end, noise is added.

    Plans on different outputs are joined on x0: those on eps or v are unrolled.

    Raises:
        ValueError: the outputs differ, and a plan that is not on x0 draws noise.

    >>> from snowmelt.core import LinearVP
    >>> from snowmelt.plans.solvers.ddim import ddim
    >>> parts = [ddim(LinearVP(), times) for times in ([1.0, 0.5], [0.5, 0.0])]
    >>> join(parts) == ddim(LinearVP(), [1.0, 0.5, 0.0])
    True
    """
    if len({plan.quantity for plan in plans}) > 1:
        plans = [unrolled(plan) for plan in plans]
    rows = list(plans[0].rows)
    for before, plan in pairwise(plans):
        first, *others = plan.rows
        if first.level != before.end:
            rows[-1] = rows[-1]._replace(advance=_then(rows[-1].advance, lift(before.end, first.level)))
        rows += [_afresh(first, keeps_x=any(row.advance.x for row in plan.rows)), *others]
    order = min(plan.order for plan in plans)
    return Plan(tuple(rows), plans[-1].end, plans[0].quantity, order, plans[0].name)


def _then(step: Combination, lift: Combination) -> Combination:
    """Return a step followed by a lift; two independent noises make one."""
    x, y, z = lift.y * step.x, lift.y * step.y, math.hypot(lift.y * step.z, lift.z)
    return Combination(x, y, tuple(lift.y * weight for weight in step.m), z)


def _afresh(row: Row, keeps_x: bool) -> Row:
    """Return a plan's first row with its own start as the base state, in place of that of the plan before."""
    c = row.correct
    return row._replace(correct=c._replace(x=0.0, y=c.x + c.y)) if keeps_x else row
