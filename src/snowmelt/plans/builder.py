"""From one formula to the coefficients of a step.

Over a step from level s to level t, with h = lam_t - lam_s, u = lam - lam_t, and stochasticity tau (0: the
ODE, 1: the reverse SDE), the exact solution for a denoiser D is

    x_t = (sigma_t/sigma_s) e^{-tau^2 h} x_s
        + alpha_t (1 + tau^2) * Integral_{-h}^0 e^{(1 + tau^2) u} D(u) du
        + sigma_t sqrt(1 - e^{-2 tau^2 h}) z

(SA-Solver, Xue et al. 2023, eq. 13; tau = 0 is DPM-Solver++, Lu et al. 2022, eq. 8). A multistep method puts
in place of D(u) the polynomial P(u) through the last k outputs; the integrals of the Lagrange polynomials are
the weights of those outputs. With k = 1, tau = 0 this is DDIM and with k = 1, tau = 1 the DDPM posterior.

The same for eps in place of the image (DPM-Solver, DEIS) is the ODE

    x_t = (alpha_t/alpha_s) x_s - alpha_t Integral e^{-lam} E(lam) dlam.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from snowmelt.core import Level
from snowmelt.plans.plan import Combination

__all__ = ["first_order_step", "multistep_weights", "out_of_frame", "ratio"]


def ratio(s: Level[float], t: Level[float]) -> float:
    """Return e^{-h} = (alpha_s sigma_t) / (alpha_t sigma_s), which needs no logarithm at either end.

    >>> ratio(Level(1.0, 0.0, 1.0), Level(0.5, 0.6, 0.8))
    0.0
    """
    return (s.alpha * t.sigma) / (t.alpha * s.sigma)


def first_order_step(s: Level[float], t: Level[float], decay: float = 1.0) -> Combination:
    """Return the formula's step with D held at its last value, as a combination of y, m = x0 and noise.

    Args:
        s: where the state is; sigma_s > 0.
        t: where it goes; alpha_t > 0.
        decay: e^{-tau^2 h} in [0, 1], the share of the old noise that is kept: 1 is deterministic, and
            e^{-h} itself is the reverse SDE.

    >>> first_order_step(Level(1.0, 0.0, 1.0), Level(0.0, 1.0, 0.0))
    Combination(x=0.0, y=0.0, m=(1.0,), z=0.0)
    """
    return Combination(
        y=t.sigma / s.sigma * decay,
        m=(t.alpha * (1 - ratio(s, t) * decay),),
        z=t.sigma * math.sqrt(1 - decay**2),
    )


def out_of_frame(combination: Combination, to: float, x: float = 1.0, y: float = 1.0) -> Combination:
    """Return a combination written for scaled states as one for the states themselves.

    A method that is written for x / scale (k-diffusion's frame has scale = alpha, a rectified flow's has
    alpha + sigma) reaches x itself by this.

    Args:
        combination: gives the scaled new state from the scaled base state x, the scaled y, outputs (x0 or
            eps, which have no scale) and noise.
        to: scale at the new level.
        x: scale at the base state's level.
        y: scale at y's level.

    >>> out_of_frame(Combination(y=0.5, m=(0.5,)), to=0.6, y=0.3)
    Combination(x=0.0, y=1.0, m=(0.3,), z=0.0)
    """
    return Combination(
        x=combination.x * to / x,
        y=combination.y * to / y,
        m=tuple(to * weight for weight in combination.m),
        z=to * combination.z,
    )


def multistep_weights(
    s: Level[float], t: Level[float], nodes: Sequence[float], tau: float = 0.0
) -> tuple[float, ...]:
    """Return the weights of the outputs whose polynomial stands in for D between `s` and `t`.

    Args:
        s: where the state is.
        t: where it goes; lam_s and lam_t are finite.
        nodes: lam of each output, all finite and different.
        tau: stochasticity, >= 0.

    Returns:
        One weight a node: alpha_t (1 + tau^2) Integral_{-h}^0 e^{(1 + tau^2) u} l_j(u) du.

    >>> s, t = Level(0.5, 0.6, 0.8), Level(0.4, 0.8, 0.6)
    >>> (weight,) = multistep_weights(s, t, [s.lam])
    >>> math.isclose(weight, first_order_step(s, t).m[0])
    True
    """
    rate = 1 + tau**2
    h = t.lam - s.lam
    # Gauss-Legendre in panels no longer than two decay lengths: exact to rounding
    panels = max(1, math.ceil(rate * abs(h) / 2))
    edges = np.linspace(-h, 0.0, panels + 1)
    x, w = np.polynomial.legendre.leggauss(20)
    width = np.diff(edges)[:, None] / 2
    u = edges[:-1, None] + width * (x + 1)
    mass = t.alpha * rate * np.exp(rate * u) * width * w
    lam = t.lam + u
    return tuple(float((mass * _lagrange(nodes, j, lam)).sum()) for j in range(len(nodes)))


def _lagrange(nodes: Sequence[float], j: int, at: np.ndarray) -> np.ndarray:
    """Return the polynomial that is 1 at node j and 0 at the others, evaluated at `at`."""
    others = [(at - node) / (nodes[j] - node) for i, node in enumerate(nodes) if i != j]
    return np.prod(others, axis=0) if others else np.ones_like(at)
