"""DPM-Solver++(2M) and its SDE form (Lu et al. 2022b, https://arxiv.org/abs/2211.01095, algorithm 2).

The formula of `snowmelt.plans.builder` on x0, with a straight line in lam through the last two images and
eta = tau^2. Its moments are M_0 and, in place of M_1 = Integral rho theta dlam, the paper's M_0 / 2: all
change counts as if it came in the middle of the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import multistep_rows, multistep_step, slope_of, tau_of
from snowmelt.plans.plan import Plan

__all__ = ["dpmpp_2m"]


def dpmpp_2m(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    eta: float = 0.0,
    solver_type: Literal["midpoint", "heun"] = "midpoint",
    lower_order_final: bool = False,
) -> Plan:
    """Return DPM-Solver++(2M)'s plan: second order with one evaluation a step.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        eta: stochasticity, >= 0: 0 is the ODE, 1 the reverse SDE (SDE-DPM-Solver++(2M), k-diffusion's eta).
        solver_type: weighs the slope with M_0 / 2 (``midpoint``, the paper's) or with M_1 (``heun``, the
            exact integral of a straight line).
        lower_order_final: take the last step in first order also where it ends above sigma = 0.

    >>> from snowmelt.core import RectifiedFlow
    >>> dpmpp_2m(RectifiedFlow(), [1.0, 0.5, 0.0])
    <Plan dpmpp_2m: 2 evaluations, t = 1 -> 0, deterministic, on x0>
    """
    levels = [schedule(t) for t in times]
    step = partial(multistep_step, tau=tau_of(eta), slope=slope_of(solver_type))
    rows = multistep_rows(levels, step, order=2, lower_order_final=lower_order_final)
    return Plan(rows, levels[-1], order=2, name="dpmpp_2m")
