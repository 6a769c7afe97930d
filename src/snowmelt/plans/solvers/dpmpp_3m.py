"""DPM-Solver++(3M) and its SDE form: the third order of Lu et al. 2022b (https://arxiv.org/abs/2211.01095).

The formula of `snowmelt.plans.builder` on x0, with a parabola in lam through the last three images and
eta = tau^2. The authors' code, and with it k-diffusion and diffusers, weighs the curvature with M_2 / 2 where
the integral of a parabola asks for M_2: so its order is 2, though its error is smaller than that of 2M.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import claimed_order, multistep_rows, multistep_step, tau_of
from snowmelt.plans.plan import Plan

__all__ = ["dpmpp_3m"]


def dpmpp_3m(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    eta: float = 0.0,
    as_published: bool = True,
    lower_order_final: bool = False,
) -> Plan:
    """Return DPM-Solver++(3M)'s plan: value, slope and curvature from the last three outputs.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        eta: stochasticity, >= 0: 0 is the ODE, 1 the reverse SDE (k-diffusion's `dpmpp_3m_sde`).
        as_published: weigh the curvature with M_2 / 2; False takes M_2, and has order 3.
        lower_order_final: let the order fall to 1 over the last steps.

    >>> from snowmelt.core import RectifiedFlow
    >>> dpmpp_3m(RectifiedFlow(), [1.0, 0.6, 0.3, 0.0], as_published=False).order
    3
    """
    levels = [schedule(t) for t in times]
    step = partial(multistep_step, tau=tau_of(eta), curvature=0.5 if as_published else 1.0)
    rows = multistep_rows(levels, step, order=3, lower_order_final=lower_order_final)
    claim = 2 if as_published or eta else claimed_order(3, lower_order_final=lower_order_final)
    return Plan(rows, levels[-1], order=claim, name="dpmpp_3m")
