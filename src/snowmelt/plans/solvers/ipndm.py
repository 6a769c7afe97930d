"""iPNDM: pseudo numerical methods with one evaluation a step (Zhang and Chen 2023, appendix H.2).

As in PNDM (`snowmelt.plans.solvers.pndm`) the noise predictions are averaged as if time were even, with the
weights of Adams and Bashforth, and DDIM's formula transfers the state along that average. In place of
Runge-Kutta steps, iPNDM starts with averages of fewer predictions. As averages over t, they make the transfer
accurate of second order and not more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import mean_weights, transfer
from snowmelt.plans.plan import Plan, Row
from snowmelt.plans.unrolling import plan_on_eps

__all__ = ["ipndm"]


def ipndm(schedule: NoiseSchedule, times: Sequence[float], *, order: int = 4, uneven: bool = False) -> Plan:
    """Return iPNDM's plan on `times`.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        order: noise predictions that are averaged, 1 to 4; 1 is DDIM.
        uneven: weigh them for the actual steps in t, rather than as if these were even.

    >>> import numpy as np
    >>> from snowmelt.core import LinearVP
    >>> plan = ipndm(LinearVP(), [0.8, 0.6, 0.4, 0.2])
    >>> even = ipndm(LinearVP(), [0.8, 0.6, 0.4, 0.2], uneven=True)
    >>> np.allclose(plan.rows[2].advance.m, even.rows[2].advance.m)
    True
    """
    if order not in (1, 2, 3, 4):
        raise ValueError(f"order of iPNDM must be 1, 2, 3 or 4, got {order}")
    levels = [schedule(t) for t in times]
    rows = []
    for i, (s, t) in enumerate(pairwise(levels)):
        last = levels[max(0, i + 1 - order) : i + 1][::-1]
        # theta of the outputs: 0, -1, -2, ... on even steps
        theta = [(level.t - s.t) / (t.t - s.t) if uneven else float(-j) for j, level in enumerate(last)]
        rows.append(Row(s, transfer(s, t, mean_weights(theta))))
    return plan_on_eps(rows, levels[-1], min(order, 2), "ipndm")
