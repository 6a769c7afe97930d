"""DEIS: the diffusion exponential integrator sampler (Zhang and Chen 2023, https://arxiv.org/abs/2204.13902).

In x/alpha the probability flow is dx = E drho with rho = sigma/alpha. An Adams-Bashforth method replaces the
noise prediction E by a polynomial through its last values, which is then integrated exactly: a polynomial in
t (tAB), in rho (rhoAB) or in log rho.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import (
    first_order_step,
    multistep_step,
    plan_on_eps,
    predictor_corrector,
    step_order,
)
from snowmelt.plans.plan import Combination, Plan
from snowmelt.plans.solvers.adams import in_coordinate

__all__ = ["deis"]

_COORDINATES = {"tAB": "t", "rhoAB": "sigma", "logrhoAB": "lam"}


def deis(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    order: int = 3,
    variant: Literal["tAB", "rhoAB", "logrhoAB"] = "tAB",
    lower_order_final: bool = True,
) -> Plan:
    """Return DEIS's plan on `times`.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        order: noise predictions that are interpolated, 1 to 4; 1 is DDIM.
        variant: the polynomials are in t, in sigma/alpha or in its logarithm.
        lower_order_final: let the order fall to 1 over the last steps.

    >>> from snowmelt.core import LinearVP
    >>> deis(LinearVP(), [1.0, 0.7, 0.4, 0.0], order=2)
    <Plan deis: 3 evaluations, t = 1 -> 0, deterministic, on eps>
    """
    if order not in (1, 2, 3, 4):
        raise ValueError(f"order of DEIS must be 1, 2, 3 or 4, got {order}")
    if variant not in _COORDINATES:
        raise ValueError(f"variant of DEIS must be one of {', '.join(_COORDINATES)}, got {variant!r}")
    coordinate = in_coordinate(schedule, _COORDINATES[variant])
    levels = [schedule(t) for t in times]

    def predict(i: int) -> Combination:
        s, t = levels[i : i + 2]
        k = step_order(levels, i, order, lower_order_final)
        if k == 1:
            return first_order_step(s, t, quantity="x0" if s.alpha == 0 else "eps")
        nodes = [level.lam for level in levels[i - k + 1 : i + 1][::-1]]
        return multistep_step(s, t, nodes, quantity="eps", coordinate=coordinate)

    # the last step is of order 1, which costs its length squared
    claim = min(order, 2) if lower_order_final else order
    return plan_on_eps(predictor_corrector(levels, predict), levels[-1], claim, "deis")
