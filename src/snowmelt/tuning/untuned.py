"""The plans to start from: what the house has for a number of evaluations, and which is best here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from snowmelt.core import NoiseSchedule
from snowmelt.plans import Method, Plan
from snowmelt.tuning.lesson import Lesson

__all__ = ["Start", "best_starts", "starts"]

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
FEW = 16  # noises on which all are tried


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
    """Return the best untuned plans, measured on the lesson's noises, each with another solver.

    All are tried on a few noises, and the better ones on all.

    Args:
        lesson: what they are measured on.
        nfe: how many evaluations they take.
        count: the most plans to return; the best comes first.
    """
    few, tried = lesson[:FEW], starts(lesson.schedule, nfe)
    first = sorted(((few.distance(plan), place) for place, (_, plan) in enumerate(tried)))
    by_solver: dict[tuple[str, str], list[int]] = {}
    for _, place in first:
        method = tried[place][0]
        key = (method.solver or "", str(sorted(method.options.items())))
        by_solver.setdefault(key, []).append(place)
    leaders = [place for places in list(by_solver.values())[: count + 1] for place in places[:2]]
    measured = sorted((lesson.distance(tried[place][1]), place) for place in leaders)
    best: dict[str, Start] = {}
    for error, place in measured:
        method, plan = tried[place]
        best.setdefault(f"{method.solver} {sorted(method.options.items())}", Start(error, method, plan))
    return list(best.values())[:count]
