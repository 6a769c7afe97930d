"""UniPC: a unified predictor-corrector (Zhao et al. 2023, https://arxiv.org/abs/2302.04867).

A step of length h = lam_t - lam_s takes DDIM's step and adds a combination of output differences (section 3
on eps, appendix A on x0),

    x_t = DDIM - alpha_t B(h) sum_k rho_k (m_k - m_0) / r_k,    r_k = (lam_k - lam_s) / h,

with rho such that the outputs' Taylor series is met term by term. These are the conditions that nodes and
moments state in lam, so B(h) cancels and UniPC is `adams`, but for one case: a single difference has
rho = 1/2, so that M_1 = M_0 / 2 if B(h) = e^h - 1, and M_1 = rho_t h / 2 if B(h) = h. The corrector has the
output at t itself (r = 1) among the differences, and lifts the order by one without another evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import claimed_order, multistep_rows, multistep_step
from snowmelt.plans.moments import Slope
from snowmelt.plans.plan import Plan
from snowmelt.plans.unrolling import plan_on_eps

__all__ = ["unipc"]

_SLOPES: dict[str, Slope] = {"bh1": "bh1", "bh2": "midpoint"}


def unipc(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    order: int = 2,
    variant: Literal["bh1", "bh2"] = "bh2",
    corrector: bool = True,
    quantity: Literal["x0", "eps"] = "x0",
    lower_order_final: bool = True,
) -> Plan:
    """Return UniPC's plan on `times`.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        order: of the predictor, 1 to 3; the corrector adds one.
        variant: B(h) = h ("bh1") or e^h - 1 ("bh2"); h counts backwards for x0.
        corrector: whether each state is corrected once its output is known.
        quantity: what is interpolated, "x0" or "eps".
        lower_order_final: let the order fall to 1 over the last steps.

    >>> from snowmelt.core import RectifiedFlow
    >>> unipc(RectifiedFlow(), [1.0, 0.7, 0.4, 0.0], order=3)
    <Plan unipc: 3 evaluations, t = 1 -> 0, deterministic, on x0>
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order of UniPC must be 1, 2 or 3, got {order}: more is unstable at few steps")
    if variant not in _SLOPES:
        raise ValueError(f"variant of UniPC must be 'bh1' or 'bh2', got {variant!r}")
    if quantity not in ("x0", "eps"):
        raise ValueError(f"quantity of UniPC must be 'x0' or 'eps', got {quantity!r}: take x0 where unsure")
    levels = [schedule(t) for t in times]
    step = partial(multistep_step, quantity=quantity, slope=_SLOPES[variant])
    corrector_order = order + 1 if corrector else 0
    rows = multistep_rows(levels, step, order, corrector_order, lower_order_final)
    claim = claimed_order(order, corrector_order, lower_order_final)
    if quantity == "eps":
        return plan_on_eps(rows, levels[-1], claim, "unipc")
    return Plan(rows, levels[-1], order=claim, name="unipc")
