"""The plans to start from: what the house has for a number of evaluations, and which is best here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from operator import itemgetter
from typing import Any, NamedTuple

from snowmelt.core import NoiseSchedule
from snowmelt.plans import Method, Plan
from snowmelt.tuning.lesson import Lesson

__all__ = ["FEW", "Start", "best_starts", "starts"]

_U: Mapping[str, Any] = {"quantity": "eps", "coordinate": "u"}
# Those that won somewhere in docs/solvers.md, and the usual ones
_SOLVERS: Sequence[tuple[str, Mapping[str, Any]]] = (
    *(("ipndm", {"order": order}) for order in (2, 3, 4)),
    ("adams", {"order": 2, "corrector_order": 3, **_U}),
    ("adams", {"order": 3, "corrector_order": 4, **_U}),
    ("dpmpp_2m", {}),
    ("dpmpp_3m", {}),
    ("unipc", {}),
    ("deis", {}),
    ("ddim", {}),
)
_GRIDS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("tuned", {}),
    ("quadratic", {}),
    ("uniform_lam", {}),
    ("ays", {}),
    ("karras", {}),
    ("trailing", {}),
)
FEW = 16  # noises on which all are tried: enough to tell bad plans from good ones


class Start(NamedTuple):
    """An untuned plan, and how it is said."""

    distance: float
    method: Method
    plan: Plan


def starts(schedule: NoiseSchedule, nfe: int) -> list[tuple[Method, Plan]]:
    """Return the house's deterministic methods that take exactly `nfe` evaluations from t = 1 to the image.

    >>> from snowmelt.core import RectifiedFlow
    >>> len(starts(RectifiedFlow(), 5))
    60
    """
    found = []
    for (solver, options), (grid, of_grid) in product(_SOLVERS, _GRIDS):
        method = Method(solver, nfe, grid, {**options, **of_grid})
        try:
            plan = method.plan(schedule)
        except ValueError:  # a grid or an order that this schedule or number does not have
            continue
        if plan.nfe == nfe and not plan.stochastic:
            found.append((method, plan))
    return found


def best_starts(lesson: Lesson, nfe: int, count: int = 1) -> list[Start]:
    """Return the best untuned plans, measured on the lesson's noises, each of another solver.

    All are tried on a few noises, and on all noises the best two of each of the better solvers.

    Args:
        lesson: what they are measured on.
        nfe: how many evaluations they take.
        count: the most plans to return; the best comes first.
    """
    few = lesson[:FEW]
    tried = [Start(few.distance(plan), method, plan) for method, plan in starts(lesson.schedule, nfe)]
    tried.sort(key=itemgetter(0))
    leaders = [start for several in _by_solver(tried)[: count + 1] for start in several[:2]]
    measured = sorted(
        (start._replace(distance=lesson.distance(start.plan)) for start in leaders), key=itemgetter(0)
    )
    return [several[0] for several in _by_solver(measured)[:count]]


def _by_solver(found: Sequence[Start]) -> list[list[Start]]:
    """Return the starts in groups of one solver with its options, each in their order."""
    groups: dict[str, list[Start]] = {}
    for start in found:
        groups.setdefault(str(replace(start.method, grid=None)), []).append(start)
    return list(groups.values())
