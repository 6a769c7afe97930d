"""DEIS: the diffusion exponential integrator sampler (Zhang and Chen 2023, https://arxiv.org/abs/2204.13902).

In x/alpha the probability flow is dx = E drho with rho = sigma/alpha. An Adams-Bashforth method replaces the
noise prediction E by a polynomial through its last values, which is then integrated exactly: a polynomial in
t (tAB), in rho (rhoAB) or in log rho. So DEIS is `adams` on eps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from snowmelt.core import NoiseSchedule
from snowmelt.plans.moments import CoordinateName
from snowmelt.plans.plan import Plan
from snowmelt.plans.solvers.adams import adams

__all__ = ["deis"]

_COORDINATES: dict[str, CoordinateName] = {"tAB": "t", "rhoAB": "sigma", "logrhoAB": "lam"}


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
    plan = adams(
        schedule,
        times,
        order=order,
        quantity="eps",
        coordinate=_COORDINATES[variant],
        lower_order_final=lower_order_final,
    )
    return replace(plan, name="deis")
