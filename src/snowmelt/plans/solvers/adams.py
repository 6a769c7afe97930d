"""The general predictor-corrector: Adams' method on the one formula of `snowmelt.plans.builder`.

Which output is interpolated (x0, eps or v), in which coordinate, through how many points, with or without a
corrector, and how much noise is exchanged: everything is an option here, and most multistep methods are one
choice of them. Order 1 is DDIM (tau = 1: ancestral sampling), x0 in lam is SA-Solver, and eps in t, sigma or
lam is DEIS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import claimed_order, multistep_rows, multistep_step
from snowmelt.plans.moments import CoordinateName, in_coordinate
from snowmelt.plans.plan import Plan, Quantity
from snowmelt.plans.unrolling import plan_on_eps

__all__ = ["adams"]


def adams(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    order: int = 3,
    corrector_order: int = 0,
    tau: float = 0.0,
    quantity: Quantity = "x0",
    coordinate: CoordinateName = "lam",
    lower_order_final: bool = False,
) -> Plan:
    """Return the plan of an Adams-Bashforth predictor, with an Adams-Moulton corrector if asked for.

    Args:
        schedule: any; variance preserving (alpha^2 + sigma^2 = 1) if `quantity` is v.
        times: strictly falling, from the first evaluation to the result.
        order: outputs that a prediction interpolates, 1 to 6.
        corrector_order: outputs that a correction interpolates, the newest included; 0: no correction.
        tau: stochasticity, >= 0: 0 is the ODE, 1 the reverse SDE. It must be 0 for v.
        quantity: which output is interpolated.
        coordinate: the polynomials are in lam, in t, in sigma/alpha ("sigma"), in sigma / (alpha + sigma)
            ("u") or in arctan(sigma/alpha) ("angle").
        lower_order_final: let the order fall to 1 over the last steps.

    >>> from snowmelt.core import LinearVP
    >>> adams(LinearVP(), [1.0, 0.7, 0.4, 0.0], order=2, corrector_order=3)
    <Plan adams: 3 evaluations, t = 1 -> 0, deterministic, on x0>
    """
    levels = [schedule(t) for t in times]
    _check(order, corrector_order, tau, quantity)
    if quantity == "v" and any(abs(math.hypot(a, s) - 1) > 1e-6 for _, a, s in levels):
        raise ValueError(f"v is integrated on variance-preserving schedules only, not {schedule!r}: take x0")
    if quantity == "eps" and tau and levels[0].alpha == 0:
        raise ValueError("eps says nothing at pure noise (alpha = 0): take quantity='x0', or a first t < 1")

    step = partial(multistep_step, tau=tau, quantity=quantity, coordinate=in_coordinate(schedule, coordinate))
    rows = multistep_rows(levels, step, order, corrector_order, lower_order_final)
    claim = 1 if tau else claimed_order(order, corrector_order, lower_order_final)
    if quantity == "eps":
        return plan_on_eps(rows, levels[-1], claim, "adams")
    return Plan(rows, levels[-1], quantity, claim, "adams")


def _check(order: int, corrector_order: int, tau: float, quantity: str) -> None:
    if order not in range(1, 7):
        raise ValueError(f"order must be 1 to 6, got {order}")
    if corrector_order not in range(7):
        raise ValueError(f"corrector_order must be 1 to 6, or 0 for no corrector, got {corrector_order}")
    if not tau >= 0:
        raise ValueError(f"tau must be >= 0 (0 is the ODE, 1 the reverse SDE), got {tau}")
    if quantity not in ("x0", "eps", "v"):
        raise ValueError(f"quantity must be 'x0', 'eps' or 'v', got {quantity!r}")
    if quantity == "v" and tau:
        raise ValueError(f"v is for the ODE (tau = 0), got tau = {tau}: take quantity='x0'")
