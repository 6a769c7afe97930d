"""The linear multistep method: Adams and Bashforth in the noise level, as in k-diffusion.

In the frame x / alpha, with n = sigma / alpha, the slope of the probability flow is the noise itself,
eps = (x_t - alpha D(x_t)) / sigma, and a step integrates the polynomial in n through the last k of them
exactly (Hairer, Norsett and Wanner 1993, section III.5, on an uneven grid). Its moments are those of a mean,

    M_j = (sigma_t - alpha_t sigma_s / alpha_s) / (j + 1)    in theta = (n - n_s) / (n_t - n_s),

so a step is DDIM's along the mean of the polynomial, and n_t = 0 is an end like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import mean_weights, transfer
from snowmelt.plans.plan import Plan, Row
from snowmelt.plans.unrolling import plan_on_eps

__all__ = ["lms"]


def lms(schedule: NoiseSchedule, times: Sequence[float], *, order: int = 4) -> Plan:
    """Return the linear multistep plan on `times`.

    The first step is Euler's, the second looks at two slopes, and so on. Euler's step costs its h^2 once,
    which small first steps make up for. Slopes closer together than a hundredth of the step are left out, as
    they would add nothing but rounding. The step out of pure noise is of first order on x0.

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
        weights: tuple[float, ...] = (1.0,)
        if s.alpha > 0:
            nodes = [s.sigma / s.alpha, *nodes[: order - 1]]
            step = t.sigma / t.alpha - nodes[0]
            weights = mean_weights([(node - nodes[0]) / step for node in _apart(nodes, abs(step) / 100)])
        rows.append(Row(s, transfer(s, t, weights)))
    return plan_on_eps(rows, levels[-1], order, "lms")


def _apart(nodes: Sequence[float], gap: float) -> Sequence[float]:
    """Return the nodes up to the first that lies within `gap` of the one after it."""
    near = (count for count, (newer, older) in enumerate(pairwise(nodes), 1) if abs(older - newer) <= gap)
    return nodes[: next(near, len(nodes))]
