"""UniPC: a unified predictor-corrector (Zhao et al. 2023, https://arxiv.org/abs/2302.04867).

A step of length h = lam_t - lam_s takes DDIM's step and adds a combination of output differences,

    x_t = DDIM - alpha_t B(h) sum_k rho_k (m_k - m_0) / r_k,    r_k = (lam_k - lam_s) / h,

with rho such that the outputs' Taylor series is met term by term. The corrector has the output
at t itself (r = 1) among the differences and lifts the order by one without another evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import (
    exponential_quadrature,
    first_order_step,
    plan_on_eps,
    predictor_corrector,
    step_order,
)
from snowmelt.plans.plan import Combination, Plan

__all__ = ["unipc"]


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
    _check(order, variant, quantity)
    levels = [schedule(t) for t in times]

    def predict(i: int) -> Combination:
        k = step_order(levels, i, order, lower_order_final)
        s, t = levels[i : i + 2]
        if k == 1:
            return first_order_step(s, t, quantity="x0" if s.alpha == 0 else quantity)
        return _step(s, t, levels[i - k + 1 : i][::-1], variant, quantity)

    def correct(i: int) -> Combination | None:
        s, t = levels[i : i + 2]
        if math.isinf(s.lam) or math.isinf(t.lam):
            return None
        k = step_order(levels, i, order, lower_order_final)
        return _step(s, t, levels[i - k + 1 : i][::-1], variant, quantity, corrector=True)

    rows = predictor_corrector(levels, predict, correct if corrector else None)
    claim = order + corrector
    claim = min(claim, 2) if lower_order_final else claim  # the last step is of order 1
    if quantity == "eps":
        return plan_on_eps(rows, levels[-1], claim, "unipc")
    return Plan(rows, levels[-1], order=claim, name="unipc")


def _step(
    s: Level[float],
    t: Level[float],
    past: Sequence[Level[float]],
    variant: str,
    quantity: Literal["x0", "eps"],
    corrector: bool = False,
) -> Combination:
    """Return UniP (or UniC) of order 1 + len(past) from s to t, with the outputs at `past`, newest first."""
    h = t.lam - s.lam
    # Appendix A on x0 (z = -h, outer factor alpha_t) and section 3 on eps (z = h, outer factor sigma_t)
    z, outer = (-h, t.alpha) if quantity == "x0" else (h, t.sigma)
    r = [(level.lam - s.lam) / h for level in past] + [1.0] * corrector
    b_of_h = z if variant == "bh1" else math.expm1(z)
    of_differences = -outer * b_of_h * _rho(z, r, b_of_h, corrector) / r
    plain = first_order_step(s, t, quantity=quantity)
    own = plain.m[0] - of_differences.sum()
    # r lists the past, then the newest output; a row wants newest first
    newest = of_differences[len(past) :].tolist()
    return plain._replace(m=(*newest, float(own), *of_differences[: len(past)].tolist()))


def _rho(z: float, r: Sequence[float], b_of_h: float, corrector: bool) -> np.ndarray:
    """Return the solution of R rho = b, 1/2 where there is one difference only."""
    if len(r) == 1:
        return np.array([0.5])  # second-order accurate whatever B(h) is
    powers = np.arange(len(r))
    # b_n = n! z phi_{n+1}(z) / B(h) for n = 1, 2, ...; n! phi_{n+1}(z) = Integral_{-1}^0 e^{-zu} (1 + u)^n du
    u, du = exponential_quadrature(1.0, abs(z))
    moments = [(np.exp(-z * u) * (1 + u) ** (n + 1) * du).sum() for n in powers]
    return np.linalg.solve(np.power.outer(np.asarray(r), powers).T, np.array(moments) * z / b_of_h)


def _check(order: int, variant: str, quantity: str) -> None:
    if order not in (1, 2, 3):
        raise ValueError(f"order of UniPC must be 1, 2 or 3, got {order}: more is unstable at few steps")
    if variant not in ("bh1", "bh2"):
        raise ValueError(f"variant of UniPC must be 'bh1' or 'bh2', got {variant!r}")
    if quantity not in ("x0", "eps"):
        raise ValueError(f"quantity of UniPC must be 'x0' or 'eps', got {quantity!r}: take x0 where unsure")
