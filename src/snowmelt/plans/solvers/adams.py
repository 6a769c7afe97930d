"""The general predictor-corrector: Adams' method on the one formula of `snowmelt.plans.builder`.

Which output is interpolated (x0, eps or v), in which coordinate, through how many points, with or without a
corrector, and how much noise is exchanged: everything is an option here, and most multistep methods are one
choice of them. Order 1 is DDIM (tau = 1: ancestral sampling), x0 in lam is SA-Solver, eps in t, sigma or lam
is DEIS's tAB, rhoAB or its logarithmic cousin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import (
    first_order_step,
    multistep_step,
    plan_on_eps,
    predictor_corrector,
    ratio,
    step_order,
)
from snowmelt.plans.plan import Combination, Plan, Quantity

__all__ = ["Coordinate", "adams", "in_coordinate"]

Coordinate = Literal["lam", "t", "sigma", "u", "angle"]


def adams(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    order: int = 3,
    corrector_order: int = 0,
    tau: float = 0.0,
    quantity: Quantity = "x0",
    coordinate: Coordinate = "lam",
    lower_order_final: bool = False,
) -> Plan:
    """Return the plan of an Adams-Bashforth predictor, with an Adams-Moulton corrector if asked for.

    Args:
        schedule: any; variance preserving (alpha^2 + sigma^2 = 1) if `quantity` is v.
        times: strictly falling, from the first evaluation to the result.
        order: outputs that a prediction interpolates, 1 to 6.
        corrector_order: outputs that a correction interpolates, the newest included; 0: no correction.
        tau: stochasticity, >= 0: 0 is the ODE, 1 the reverse SDE. Not for v.
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
    polynomial = in_coordinate(schedule, coordinate)

    def step(i: int, newest: int, oldest: int) -> Combination:
        nodes = [level.lam for level in levels[oldest : newest + 1][::-1]]
        return multistep_step(levels[i], levels[i + 1], nodes, tau, quantity, polynomial)

    def predict(i: int) -> Combination:
        s, t = levels[i : i + 2]
        k = step_order(levels, i, order, lower_order_final)
        if k > 1 or (tau and quantity == "eps" and t.sigma > 0):
            return step(i, i, i - k + 1)
        decay = ratio(s, t) ** (tau**2) if tau and quantity == "x0" else 1.0
        return first_order_step(s, t, decay, "x0" if s.alpha == 0 and quantity == "eps" else quantity)

    def correct(i: int) -> Combination | None:
        if math.isinf(levels[i].lam) or math.isinf(levels[i + 1].lam):
            return None
        # the newest output, and as many older ones as a prediction could have
        k = 1 + step_order(levels, i, corrector_order - 1, lower_order_final)
        return step(i, i + 1, i + 2 - k)

    rows = predictor_corrector(levels, predict, correct if corrector_order else None)
    claim = 1 if tau else max(order, min(corrector_order, order + 1))
    claim = min(claim, 2) if lower_order_final else claim  # the last step is of order 1
    if quantity == "eps":
        return plan_on_eps(rows, levels[-1], claim, "adams")
    return Plan(rows, levels[-1], quantity, claim, "adams")


def in_coordinate(schedule: NoiseSchedule, coordinate: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return lam -> the named coordinate, for arrays of float64.

    >>> from snowmelt.core import RectifiedFlow
    >>> in_coordinate(RectifiedFlow(), "t")(np.array([0.0]))
    array([0.5])
    """
    functions: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "lam": np.asarray,
        "t": lambda lam: schedule.t_of_lam(torch.from_numpy(lam)).numpy(),
        "sigma": lambda lam: np.exp(-lam),
        "u": lambda lam: 1 / (1 + np.exp(lam)),
        "angle": lambda lam: np.arctan(np.exp(-lam)),
    }
    if coordinate not in functions:
        raise ValueError(f"coordinate must be one of {', '.join(functions)}, got {coordinate!r}")
    return functions[coordinate]


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
