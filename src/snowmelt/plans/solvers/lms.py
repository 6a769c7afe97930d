"""The linear multistep method: Adams and Bashforth in the noise level, as in k-diffusion.

In the frame x / alpha, with n = sigma / alpha, the slope of the probability flow is the noise itself,
eps = (x_t - alpha D(x_t)) / sigma, and a step integrates the polynomial through the last k of them,

    x_t / alpha_t = x_s / alpha_s + sum_j eps_j * Integral_{n_s}^{n_t} l_j(n) dn,

exactly (Hairer, Norsett and Wanner 1993, section III.5, on an uneven grid). n = 0 is an end like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import first_order_step
from snowmelt.plans.plan import Combination, Plan, Row

__all__ = ["lms"]


def lms(schedule: NoiseSchedule, times: Sequence[float], *, order: int = 4) -> Plan:
    """Return the linear multistep plan on `times`.

    It starts with as many slopes as there are: Euler's step, the first, costs its h^2 once, which small
    first steps make up for. Slopes closer together than a hundredth of the step are left out: they would add
    but rounding. At pure noise eps says nothing of the image: the step out of it is first order on x0, and
    so the whole plan is written on x0.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        order: how many slopes a step looks at, 1 (Euler) to 4.

    >>> from snowmelt.core import VE
    >>> plan = lms(VE(rho=1.0), [0.5, 0.375, 0.25], order=2)  # sigma = 40, 30, 20
    >>> plan.rows[1].advance.m  # Adams and Bashforth's 3/2 and -1/2, times the step
    (-15.0, 5.0)
    """
    if order not in (1, 2, 3, 4):
        raise ValueError(f"order must be 1, 2, 3 or 4, got {order}")
    levels = [schedule(t) for t in times]
    rows: list[Row] = []
    nodes: list[float] = []  # newest first
    for s, t in pairwise(levels):
        if s.alpha == 0:  # pure noise, where n is infinite
            continue
        nodes = [s.sigma / s.alpha, *nodes[: order - 1]]
        end = t.sigma / t.alpha
        weights = _integrals(_apart(nodes, (nodes[0] - end) / 100), end)
        advance = Combination(y=t.alpha / s.alpha, m=tuple(t.alpha * weight for weight in weights))
        rows.append(Row(s, advance))
    on_eps = levels[0].alpha > 0
    if not on_eps:
        rows = _on_x0([Row(levels[0], first_order_step(levels[0], levels[1])), *rows])
    return Plan(tuple(rows), levels[-1], "eps" if on_eps else "x0", order=order, name="lms")


def _apart(nodes: Sequence[float], gap: float) -> Sequence[float]:
    """Return the nodes up to the first that lies within `gap` of the one after it."""
    near = (count for count, (newer, older) in enumerate(pairwise(nodes), 1) if older - newer <= gap)
    return nodes[: next(near, len(nodes))]


def _integrals(nodes: Sequence[float], end: float) -> list[float]:
    """Return the integrals of the Lagrange polynomials on `nodes`, from the first node to `end`."""
    step = end - nodes[0]
    at = [node - nodes[0] for node in nodes]  # the step leads away from them all: no sum below cancels
    integrals = []
    for node in at:
        basis = Polynomial([1.0])
        for other in at:
            if other != node:
                basis *= Polynomial([-other, 1.0]) / (node - other)
        integrals.append(sum(float(c) * step**power / power for power, c in enumerate(basis.coef, 1)))
    return integrals


def _on_x0(rows: Sequence[Row]) -> list[Row]:
    """Return rows on eps, all but the first, which is on x0 already, as rows on x0.

    The eps of earlier rows needs their states, which a row cannot see; but all are combinations of the
    initial state, which stays in x, and of the outputs so far. So every row is written out on these.
    """
    first, *others = rows
    # Vectors of coefficients: of the initial state, then of the outputs, oldest first
    unit = np.eye(1 + len(rows))
    y = first.advance.y * unit[0] + first.advance.m[0] * unit[1]
    states = [y]
    slopes: list[NDArray[np.float64]] = []  # newest first
    for output, (level, advance, _) in zip(unit[2:], others, strict=True):
        slopes = [(y - level.alpha * output) / level.sigma, *slopes]
        y = advance.y * y + sum(weight * eps for weight, eps in zip(advance.m, slopes, strict=False))
        states.append(y)
    return [
        Row(row.level, Combination(x=float(y[0]), m=tuple(y[i:0:-1].tolist())))
        for i, (row, y) in enumerate(zip(rows, states, strict=True), 1)
    ]
