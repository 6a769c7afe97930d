"""Pseudo numerical methods for diffusion models (Liu et al. 2022, https://arxiv.org/abs/2202.09778).

A classical method for ordinary differential equations is split in two: it averages the noise predictions eps
as if time were even, and DDIM's formula transfers the state along that average,

    x_t = (alpha_t/alpha_s) x_s + (sigma_t - alpha_t sigma_s / alpha_s) e.

Every average of a right eps is right, so the transfer stays on the manifold; averages over t make it accurate
of second order, whatever the order of the averaging method. `pndm` starts with Runge-Kutta steps of four
evaluations; `ipndm` (Zhang and Chen 2023, appendix H.2) starts with lower orders and one evaluation a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import first_order_step, plan_on_eps, predictor_corrector
from snowmelt.plans.plan import Combination, Plan, Row

__all__ = ["ipndm", "pndm"]

# Adams-Bashforth on even steps, newest first (PNDM takes order 4)
_ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def ipndm(schedule: NoiseSchedule, times: Sequence[float], *, order: int = 4, uneven: bool = False) -> Plan:
    """Return iPNDM's plan on `times`.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        order: noise predictions that are averaged, 1 to 4; 1 is DDIM.
        uneven: weigh them for the actual steps in t, rather than as if these were even.

    >>> from snowmelt.core import LinearVP
    >>> plan = ipndm(LinearVP(), [0.8, 0.6, 0.4, 0.2])
    >>> even = ipndm(LinearVP(), [0.8, 0.6, 0.4, 0.2], uneven=True)
    >>> np.allclose(plan.rows[2].advance.m, even.rows[2].advance.m)
    True
    """
    if order not in _ADAMS_BASHFORTH:
        raise ValueError(f"order of iPNDM must be 1, 2, 3 or 4, got {order}")
    levels = [schedule(t) for t in times]

    def predict(i: int) -> Combination:
        s, t = levels[i : i + 2]
        k = min(order, i + 1)
        weights = _mean_weights(t.t, [s.t for s in levels[i - k + 1 : i + 1][::-1]]) if uneven else None
        return _transfer(s, t, weights or _ADAMS_BASHFORTH[k])

    return plan_on_eps(predictor_corrector(levels, predict), levels[-1], min(order, 2), "ipndm")


def pndm(schedule: NoiseSchedule, times: Sequence[float]) -> Plan:
    """Return PNDM's plan on `times` (its algorithm 2): up to three Runge-Kutta steps, then Adams-Bashforth.

    A Runge-Kutta step evaluates four times, so that n >= 4 steps take n + 9 evaluations. A step out of pure
    noise or to the clean image, where there is no eps to evaluate, is DDIM's. Out of almost pure noise each
    stage magnifies errors of eps by alpha_t / alpha_s: start there with another method, or later.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result; steps even in t are assumed.

    >>> from snowmelt.core import LinearVP
    >>> pndm(LinearVP(), [1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    <Plan pndm: 14 evaluations, t = 1 -> 0, deterministic, on eps>
    """
    levels = [schedule(t) for t in times]
    rows: list[Row] = []
    firsts: list[int] = []  # the rows at the grid's own points, whose outputs the multistep formula looks at
    for i in range(len(levels) - 1):
        s, t = levels[i : i + 2]
        firsts = [*firsts[-3:], len(rows)]
        warm = len(firsts) == 4
        if not warm and s.alpha > 0 and t.sigma > 0:
            rows += _runge_kutta(s, schedule((s.t + t.t) / 2), t)
            continue
        at = [len(rows) - first for first in firsts[::-1]]
        weights = np.zeros(at[-1] + 1)
        weights[at] = _ADAMS_BASHFORTH[len(at)]
        rows.append(Row(s, _transfer(s, t, weights.tolist())))
    return plan_on_eps(rows, levels[-1], 2, "pndm")


def _transfer(s: Level[float], t: Level[float], weights: Sequence[float], of_x: bool = False) -> Combination:
    """Return DDIM's step along the weighted mean of the noise predictions, from y or from x."""
    step = first_order_step(s, t, quantity="eps" if s.alpha else "x0")
    m = tuple(step.m[0] * weight for weight in weights)
    return Combination(x=step.y, m=m) if of_x else Combination(y=step.y, m=m)


def _runge_kutta(s: Level[float], middle: Level[float], t: Level[float]) -> list[Row]:
    """Return the four rows of the pseudo Runge-Kutta step; x keeps the state at s."""
    stages = (
        (s, middle, (1.0,)),
        (middle, middle, (1.0,)),
        (middle, t, (1.0,)),
        (t, t, (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
    )
    first, *others = (Row(at, _transfer(s, to, weights, of_x=True)) for at, to, weights in stages)
    return [first._replace(correct=Combination(y=1.0)), *others]


def _mean_weights(t: float, nodes: Sequence[float]) -> tuple[float, ...]:
    """Return the weights of a polynomial's mean between nodes[0] and t, from its values at the nodes.

    >>> _mean_weights(2.0, [4.0, 6.0])
    (1.5, -0.5)
    """
    # exact for the powers 1, d, d^2, ... of d = (time - nodes[0]) / (t - nodes[0]), whose means are 1/(k + 1)
    d = (np.asarray(nodes) - nodes[0]) / (t - nodes[0])
    powers = np.arange(len(nodes))
    weights = np.linalg.solve(np.power.outer(d, powers).T, 1 / (powers + 1))
    return tuple(weights.tolist())
