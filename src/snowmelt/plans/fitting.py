"""Whether a plan suits the schedule that a network was trained on."""

from __future__ import annotations

import math

from snowmelt.core import NoiseSchedule
from snowmelt.plans.plan import Plan

__all__ = ["fitting", "trained"]


def fitting(plan: Plan, schedule: NoiseSchedule) -> Plan:
    """Return a finished plan; one that was made for another noise schedule is a ValueError."""
    for level in plan.levels:
        here = schedule(level.t)
        if not all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(level, here, strict=True)):
            raise ValueError(
                f"the plan {plan.name} was made for another noise schedule: at t = {level.t:g} it has alpha "
                f"= {level.alpha:g} and sigma = {level.sigma:g}, and the model has {here.alpha:g} and "
                f"{here.sigma:g}; make it anew with `snowmelt plan show --checkpoint`"
            )
    return trained(plan, schedule)


def trained(plan: Plan, schedule: NoiseSchedule) -> Plan:
    """Return the plan; one that asks a network below its first trained index is a ValueError."""
    lowest = min(row.level.t for row in plan.rows)
    if schedule.num_timesteps is not None and lowest < schedule.t_min * (1 - 1e-9):
        raise ValueError(
            f"the plan {plan.name} asks the network at t = {lowest:g}, below its first trained step at "
            f"t = {schedule.t_min:g}, of which it knows nothing: take fewer steps, or later times"
        )
    return plan
