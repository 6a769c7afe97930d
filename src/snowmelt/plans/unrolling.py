"""Tables on eps or v, written on x0.

At pure noise, where alpha = 0, eps is y / sigma and does not depend on the network: only the image tells the
step where to go. So a method on eps that starts there is written on x0, and so are plans on different outputs
that are to be joined.

Every deterministic plan has one such form, in which each row gives its state from the first one and all
images since. Two plans that do the same are then the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from snowmelt.core import Level
from snowmelt.plans.plan import Combination, Plan, Quantity, Row

__all__ = ["from_first_state", "plan_on_eps", "unrolled"]


def plan_on_eps(rows: Sequence[Row], end: Level[float], order: int, name: str) -> Plan:
    """Return the plan of a deterministic method on eps, which may start at pure noise.

    If it does, its first row weighs x0, and `unrolled` writes the others on x0 too.

    Args:
        rows: the table on eps; at alpha = 0 the first row's advance is on x0.
        end: the level of the result.
        order: as in `Plan`.
        name: as in `Plan`.

    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.plans.builder import first_order_step
    >>> levels = [RectifiedFlow()(t) for t in (1.0, 0.5, 0.0)]
    >>> rows = [Row(levels[0], first_order_step(*levels[:2])), Row(levels[1], Combination(y=2.0, m=(-1.0,)))]
    >>> plan_on_eps(rows, levels[-1], 1, "ddim").rows[1].advance
    Combination(x=0.0, y=0.0, m=(1.0, 0.0), z=0.0)
    """
    plan = Plan(tuple(rows), end, "eps", order, name)
    return plan if rows[0].level.alpha > 0 else unrolled(plan)


def unrolled(plan: Plan) -> Plan:
    """Return a deterministic plan on eps or v as one on x0; a plan on x0 stays as it is.

    An eps or v of a former row needs that row's state, which is gone: see `from_first_state`.

    Raises:
        ValueError: the plan draws noise, which a later row cannot subtract again.

    >>> from snowmelt.core import LinearVP
    >>> from snowmelt.plans.solvers.deis import deis
    >>> unrolled(deis(LinearVP(), [1.0, 0.5, 0.2, 0.0]))
    <Plan deis: 3 evaluations, t = 1 -> 0, deterministic, on x0>
    """
    return plan if plan.quantity == "x0" else from_first_state(plan)


def from_first_state(plan: Plan) -> Plan:
    """Return a deterministic plan in the form y = a_x x + sum_j a_j m_{i-j}, where x is the first state.

    Args:
        plan: on x0, eps or v.

    Returns:
        The plan on x0 that does the same: no row corrects x, and row i weighs x and the images of all rows
        up to its own.

    Raises:
        ValueError: the plan draws noise.

    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.plans.solvers.ddim import ddim
    >>> [row.advance.m for row in from_first_state(ddim(RectifiedFlow(), [1.0, 0.5, 0.0])).rows]
    [(0.5,), (1.0, 0.0)]
    """
    if plan.stochastic:
        raise ValueError(f"{plan!r} cannot be written on x0, because it draws noise: take a solver on x0")
    basis = np.eye(plan.nfe + 1)  # the first state, then the image of each row
    x = y = basis[0]
    outputs: list[np.ndarray] = []
    rows = []
    for i, (level, advance, correct) in enumerate(plan.rows):
        image = basis[i + 1]
        outputs.insert(0, _OUTPUTS[plan.quantity](y, image, level))
        x = _apply(correct, x, y, outputs)
        on_image = plan.quantity == "eps" and level.alpha == 0
        y = _apply(advance, x, y, [image] if on_image else outputs)
        rows.append(Row(level, Combination(x=float(y[0]), m=tuple(y[i + 1 : 0 : -1].tolist()))))
    return replace(plan, rows=tuple(rows), quantity="x0")


_OUTPUTS: dict[Quantity, Callable[[np.ndarray, np.ndarray, Level[float]], np.ndarray]] = {
    "x0": lambda y, image, level: image,
    "eps": lambda y, image, level: (y - level.alpha * image) / level.sigma,
    "v": lambda y, image, level: (level.alpha * y - image) / level.sigma,
}


def _apply(c: Combination, x: np.ndarray, y: np.ndarray, outputs: Sequence[np.ndarray]) -> np.ndarray:
    return sum((w * m for w, m in zip(c.m, outputs, strict=False)), c.x * x + c.y * y)
