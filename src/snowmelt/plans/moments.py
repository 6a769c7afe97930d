"""The moments of a step: what the exact solution makes of each power of a coordinate.

A multistep method replaces what the network says between levels s and t by a polynomial in a coordinate c.
With theta = (c - c_s) / (c_t - c_s), which is 0 at s and 1 at t, the step needs of the exact solution only

    M_n = Integral rho(lam) theta^n dlam,    n = 0, 1, 2, ...

where rho is what `snowmelt.plans.builder` weighs x0, eps or v with. Some published methods replace the moment
of the slope (M_1, see `SLOPES`) or of the curvature (M_2) by a simpler number of about the same size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.plan import Quantity

__all__ = [
    "SLOPES",
    "Coordinate",
    "CoordinateName",
    "Slope",
    "exponential_quadrature",
    "in_coordinate",
    "moments",
    "share_of_step",
]

Array = NDArray[np.float64]
Coordinate = Callable[[Array], Array]  # of lam, strictly monotone
CoordinateName = Literal["lam", "t", "sigma", "u", "angle"]
Slope = Literal["exact", "midpoint", "bh1"]

_GAUSS, _WEIGHTS = np.polynomial.legendre.leggauss(20)

# rho as a function of level t, rate = 1 + tau^2 and u = lam - lam_t
_DENSITIES: dict[Quantity, Callable[[Level[float], float, Array], Array]] = {
    "x0": lambda t, rate, u: t.alpha * rate * np.exp(rate * u),
    "eps": lambda t, rate, u: -t.sigma * rate * np.exp(-u),  # alpha_t e^{-lam} = sigma_t e^{-u}
    "v": lambda t, rate, u: -1 / (2 * np.cosh(t.lam + u)),  # phi = arctan e^{-lam}
}

# M_1 from M_0, the integral M_1, and rho_t h; all agree as h goes to 0
SLOPES: dict[Slope, Callable[[float, float, float], float]] = {
    "exact": lambda whole, integral, short: integral,
    "midpoint": lambda whole, integral, short: whole / 2,  # DPM-Solver(++), and UniPC's B(h) = e^h - 1
    "bh1": lambda whole, integral, short: short / 2,  # UniPC's B(h) = h, and SA-Solver
}


def moments(
    s: Level[float],
    t: Level[float],
    count: int,
    tau: float = 0.0,
    quantity: Quantity = "x0",
    coordinate: Coordinate = np.asarray,
    slope: Slope = "exact",
    curvature: float = 1.0,
) -> Array:
    """Return the first `count` moments of the step from `s` to `t`, each an integral in float64.

    `count` is the number of outputs. The other arguments are those of
    `snowmelt.plans.builder.multistep_weights`.

    >>> s, t = Level(0.5, 0.6, 0.8), Level(0.4, 0.8, 0.6)
    >>> h = t.lam - s.lam  # M_0 = alpha_t (1 - e^{-h}) and M_1 = alpha_t (1 - (1 - e^{-h}) / h)
    >>> np.allclose(moments(s, t, 2), [-0.8 * np.expm1(-h), 0.8 * (1 + np.expm1(-h) / h)])
    True
    """
    h, rate = t.lam - s.lam, 1 + tau**2
    u, du = exponential_quadrature(h, rate)
    density = _DENSITIES[quantity]
    theta = share_of_step(s, t, coordinate)(t.lam + u)
    values: Array = theta ** np.arange(count)[:, None] @ (density(t, rate, u) * du)
    if count == 2:
        values[1] = SLOPES[slope](values[0], values[1], float(density(t, rate, np.zeros(()))) * h)
    if count == 3:
        values[2] *= curvature
    return values


def share_of_step(s: Level[float], t: Level[float], coordinate: Coordinate = np.asarray) -> Coordinate:
    """Return lam -> theta, the share of the way from `s` to `t` in a coordinate.

    >>> s, t = Level(0.5, 0.6, 0.8), Level(0.4, 0.8, 0.6)
    >>> share_of_step(s, t)(np.array([s.lam, t.lam]))
    array([0., 1.])
    """
    start, end = coordinate(np.array([s.lam, t.lam]))
    return lambda lam: (coordinate(lam) - start) / (end - start)


def exponential_quadrature(h: float, rate: float = 1.0) -> tuple[Array, Array]:
    """Return points u and weights that integrate e^{rate u} times a smooth function from -h to 0.

    Gauss-Legendre in panels no longer than two decay lengths: exact to rounding for polynomials.

    >>> u, du = exponential_quadrature(3.0)
    >>> math.isclose((np.exp(u) * du).sum(), -math.expm1(-3.0))
    True
    """
    panels = max(1, math.ceil(rate * abs(h) / 2))
    edges = np.linspace(-h, 0.0, panels + 1)
    width = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + width * (_GAUSS + 1)).ravel(), (width * _WEIGHTS).ravel()


def in_coordinate(schedule: NoiseSchedule, coordinate: str) -> Coordinate:
    """Return lam -> the named coordinate, for arrays of float64.

    Args:
        schedule: gives t.
        coordinate: ``lam``, ``t``, ``sigma`` (sigma/alpha), ``u`` (sigma / (alpha + sigma)) or ``angle``
            (arctan(sigma/alpha)).

    >>> from snowmelt.core import RectifiedFlow
    >>> in_coordinate(RectifiedFlow(), "t")(np.array([0.0]))
    array([0.5])
    """
    functions: dict[str, Coordinate] = {
        "lam": np.asarray,
        "t": lambda lam: schedule.t_of_lam(torch.from_numpy(lam)).numpy(),
        "sigma": lambda lam: np.exp(-lam),
        "u": lambda lam: 1 / (1 + np.exp(lam)),
        "angle": lambda lam: np.arctan(np.exp(-lam)),
    }
    if coordinate not in functions:
        raise ValueError(f"coordinate must be one of {', '.join(functions)}, got {coordinate!r}")
    return functions[coordinate]
