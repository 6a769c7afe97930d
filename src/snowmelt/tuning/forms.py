"""What of a plan is tuned: a plan as a function of a few free numbers.

    schedule    the times that a solver steps through; its coefficients follow from them
    levels      these, and at each row the level that the network is told, which need not be the state's
    table       the told levels and every coefficient of the plan in the form of its first state

The told level is free because coefficients are: row i says "ask the network as if y were at this level, and
weigh what it says". All stay inside what the network knows, and times fall by construction. The first row (it
sees pure noise, at t = 1) and the level of the result are never touched. In a `table` the last row keeps the
sum of its weights, so that a constant image is still reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans import Combination, Method, Plan, Row
from snowmelt.plans.unrolling import from_first_state

__all__ = ["Form", "Numbers", "level_form", "schedule_form", "table_form"]

Numbers = NDArray[np.float64]
SMALLEST_GAP = 1e-4  # of the way in lam: grids may put two times nearer to each other, or an end


@dataclass(frozen=True)
class Form:
    """Free numbers, and the plan that they make.

    Attributes:
        numbers: where to start.
        make: any numbers of that length -> a plan. A ValueError says that there is none.
    """

    numbers: Numbers
    make: Callable[[Numbers], Plan]

    @property
    def plan(self) -> Plan:
        """The plan at the start."""
        return self.make(self.numbers)


def schedule_form(schedule: NoiseSchedule, method: Method, times: Sequence[float] | None = None) -> Form:
    """Return a solver as a function of its inner times, as logits of the gaps in lam.

    Args:
        schedule: any.
        method: a solver, from t = 1 to the image.
        times: where to start; None takes the method's own.

    >>> from snowmelt.core import RectifiedFlow
    >>> form = schedule_form(RectifiedFlow(), Method("ddim", 3))
    >>> [round(level.t, 6) for level in form.plan.levels]
    [1.0, 0.666667, 0.333333, 0.0]
    """
    inner = (method.times(schedule) if times is None else tuple(times))[1:-1]
    low, high = _span(schedule)
    shares = [(schedule(t).lam - low) / (high - low) for t in inner]
    gaps = np.diff([0.0, *shares, 1.0]).clip(SMALLEST_GAP)
    logits = np.log(gaps[:-1] / gaps[-1])

    def make(numbers: Numbers) -> Plan:
        shares = np.exp([*numbers, 0.0])
        falling = [schedule.t_of_lam(low + (high - low) * p) for p in np.cumsum(shares / shares.sum())[:-1]]
        return method.plan(schedule, (1.0, *falling, 0.0))

    return Form(logits, make)


def level_form(schedule: NoiseSchedule, times: Form) -> Form:
    """Return a solver as a function of its times, and of how far in lam each told level is from its state's.

    Args:
        schedule: any.
        times: what `schedule_form` returned.

    >>> from snowmelt.core import RectifiedFlow
    >>> form = level_form(RectifiedFlow(), schedule_form(RectifiedFlow(), Method("ddim", 3)))
    >>> len(form.numbers)
    4
    """
    of_times = len(times.numbers)

    def make(numbers: Numbers) -> Plan:
        plan = from_first_state(times.make(numbers[:of_times]))
        first, *others = plan.rows
        moved = [
            row._replace(level=_told(schedule, row.level.lam + shift))
            for row, shift in zip(others, numbers[of_times:], strict=True)
        ]
        return replace(plan, rows=(first, *moved))

    shifts = np.zeros(times.plan.nfe - 1)
    return Form(np.concatenate([times.numbers, shifts]), make)


def table_form(schedule: NoiseSchedule, plan: Plan) -> Form:
    """Return a plan as a function of all its numbers.

    Args:
        schedule: that of the plan.
        plan: deterministic, from t = 1 on.

    >>> from snowmelt.core import RectifiedFlow
    >>> plan = Method("ddim", 3).plan(RectifiedFlow())
    >>> form = table_form(RectifiedFlow(), plan)
    >>> len(form.numbers), form.plan.rows[-1].advance.m
    (9, (1.0, 0.0, 0.0))
    """
    start = from_first_state(plan)
    last = start.rows[-1].advance

    def make(numbers: Numbers) -> Plan:
        unread = iter(numbers.tolist())
        rows: list[Row] = []
        for row in start.rows:
            level = _told(schedule, next(unread)) if rows else row.level
            if row is not start.rows[-1]:
                advance = Combination(x=next(unread), m=tuple(next(unread) for _ in row.advance.m))
            else:
                free = [next(unread) for _ in last.m[1:]]
                advance = last._replace(m=(sum(last.m) - sum(free), *free))
            rows.append(Row(level, advance))
        return replace(start, rows=tuple(rows))

    numbers: list[float] = []
    for row in start.rows:
        numbers += [row.level.lam] if numbers else []
        numbers += (row.advance.x, *row.advance.m) if row is not start.rows[-1] else last.m[1:]
    return Form(np.array(numbers), make)


def _told(schedule: NoiseSchedule, lam: float) -> Level[float]:
    """Return the level at `lam`, or the nearest that a network knows."""
    low, high = _span(schedule)
    return schedule(schedule.t_of_lam(min(max(lam, low), high)))


def _span(schedule: NoiseSchedule) -> tuple[float, float]:
    return schedule(schedule.t_max).lam, schedule(schedule.t_min).lam
