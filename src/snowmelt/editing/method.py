"""A sampling method that can still be cut, reversed and repeated.

A plan is complete in itself: it cannot start halfway, since a multistep method would miss its history. So
editing keeps what a plan is made of, and makes it anew on the times that are wanted.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snowmelt.core import NoiseSchedule
from snowmelt.plans import SOLVERS, Plan, make_plan, reverse

__all__ = ["Method", "choose_method"]

STEPS = 50  # unless told
LISTS = {"times", "sigmas", "indices"}  # of evaluations, which count themselves


@dataclass(frozen=True)
class Method:
    """A solver and the times that it steps through.

    Attributes:
        schedule: what the times are on.
        solver: a key of `SOLVERS`.
        times: strictly falling, from the first evaluation to the image.
        options: of the solver.
    """

    schedule: NoiseSchedule
    solver: str
    times: tuple[float, ...]
    options: Mapping[str, Any]

    def plan(self, times: Sequence[float] | None = None) -> Plan:
        """Return the solver's plan on `times`; on all of its own if None."""
        return SOLVERS[self.solver](self.schedule, self.times if times is None else times, **self.options)

    def reversed(self) -> Plan:
        """Return the plan from the image to the noise; a stochastic solver is a ValueError."""
        return reverse(self.schedule, self.times, self.solver, **self.options)

    def times_from(self, t: float) -> tuple[float, ...]:
        """Return the times from exactly `t` in (0, 1] down to the image.

        A first step of less than a tenth of the grid's is merged with the next, as multistep methods divide
        by its length.

        >>> from snowmelt.core import RectifiedFlow
        >>> method = choose_method(RectifiedFlow(), "ddim", 4, "trailing")
        >>> method.times_from(0.6), method.times_from(0.51)
        ((0.6, 0.5, 0.25, 0.0), (0.51, 0.25, 0.0))
        """
        above = min((time for time in self.times if time >= t), default=1.0)
        first, *others = [time for time in self.times if time < t]
        if others and t - first < 0.1 * (above - first):
            return (t, *others)
        return (t, first, *others)


def choose_method(
    schedule: NoiseSchedule,
    solver: str = "ddim",
    steps: int | None = None,
    grid: str | None = None,
    **options: Any,
) -> Method:
    """Return the method that the arguments of `make_plan` ask for.

    Args:
        schedule: what the network was trained on.
        solver: a key of `SOLVERS`.
        steps: time steps; None takes 50, or every trained index if there are fewer, or as many as a list
            among the options has.
        grid: a key of `GRIDS`; None takes ``uniform_lam``, or a list among the options.
        options: of the solver or the grid.

    Raises:
        TypeError, ValueError: as `make_plan` does.
    """
    listed = bool(options.keys() & LISTS)
    if steps is None and not listed:
        steps = min(STEPS, schedule.num_timesteps or STEPS)
    if grid is None:
        grid = "trailing" if listed else "uniform_lam"
    make_plan(schedule, solver, steps, grid, **options)  # checks every name and option
    parameters = list(inspect.signature(SOLVERS[solver]).parameters)[2:]
    own = {name: value for name, value in options.items() if name in parameters}
    rest = {name: value for name, value in options.items() if name not in own}
    # DDIM evaluates once a step, so its levels are the grid itself
    times = tuple(level.t for level in make_plan(schedule, "ddim", steps, grid, **rest).levels)
    return Method(schedule, solver, times, own)
