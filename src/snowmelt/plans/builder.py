"""From one formula to the coefficients of a step.

Over a step from level s to level t, with h = lam_t - lam_s, u = lam - lam_t, and stochasticity tau (0: the
ODE, 1: the reverse SDE), the exact solution for a denoiser D is

    x_t = (sigma_t/sigma_s) e^{-tau^2 h} x_s
        + alpha_t (1 + tau^2) * Integral_{-h}^0 e^{(1 + tau^2) u} D(u) du
        + sigma_t sqrt(1 - e^{-2 tau^2 h}) z                                             (1)

(SA-Solver, Xue et al. 2023; tau = 0 is DPM-Solver++, Lu et al. 2022). The same for eps in place of the image
(DPM-Solver, DEIS, and SA-Solver's appendix) is

    x_t = (alpha_t/alpha_s) x_s - sigma_t (1 + tau^2) * Integral_{-h}^0 e^{-u} E(u) du
        + tau sigma_t sqrt(e^{2h} - 1) z,                                                (2)

and for v on a variance-preserving schedule, where alpha = cos phi and sigma = sin phi, a plain integral,

    x_t = x_s + Integral V(phi) dphi.                                                    (3)

A multistep method puts in place of D, E or V the polynomial through its last k outputs, in some coordinate.
In every coordinate the weights w_j of the outputs solve one linear system, nodes against moments:

    sum_j w_j theta_j^n = M_n,    n = 0 .. k - 1                                         (4)

(`snowmelt.plans.moments`; docs/solvers-as-moments.md derives it). With k = 1 and tau = 0 this is DDIM, with
k = 1 and tau = 1 the DDPM posterior. A corrector is the same step again with the newest output, at t, among
its nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.moments import Coordinate, Slope, moments, share_of_step
from snowmelt.plans.plan import Combination, Quantity, Row

__all__ = [
    "TO_BASE",
    "Step",
    "ancestral_decay",
    "between",
    "claimed_order",
    "first_order_step",
    "from_base",
    "interpolatory_weights",
    "mean_weights",
    "multistep_rows",
    "multistep_step",
    "multistep_weights",
    "out_of_frame",
    "ratio",
    "slope_of",
    "step_order",
    "tau_of",
    "transfer",
]

# From level s to level t, with the outputs at these lam, newest first
Step = Callable[[Level[float], Level[float], Sequence[float]], Combination]

TO_BASE = Combination(y=1.0)  # the correction of a row that makes y the base state of the rows after it


# -- steps of first order ------------------------------------------------------------------------------


def ratio(s: Level[float], t: Level[float]) -> float:
    """Return e^{-h} = (alpha_s sigma_t) / (alpha_t sigma_s), which needs no logarithm at either end.

    >>> ratio(Level(1.0, 0.0, 1.0), Level(0.5, 0.6, 0.8))
    0.0
    """
    return (s.alpha * t.sigma) / (t.alpha * s.sigma)


def ancestral_decay(s: Level[float], t: Level[float], eta: float) -> float:
    """Return the share of sigma_t that the old noise keeps if the share `eta` is fresh (DDIM eq. 16).

    >>> s, t = Level(0.5, 0.6, 0.8), Level(0.4, 0.8, 0.6)
    >>> ancestral_decay(s, t, 0.0), ancestral_decay(s, t, 1.0) == ratio(s, t)
    (1.0, True)
    """
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta must lie in [0, 1] (0 is deterministic, 1 is ancestral sampling), got {eta}")
    # The fresh noise has standard deviation eta sigma_t sqrt(1 - e^{-2h}); the old one has the rest (eq. 12)
    return math.sqrt(1 - eta**2 + (eta * ratio(s, t)) ** 2)


def first_order_step(
    s: Level[float], t: Level[float], decay: float = 1.0, quantity: Quantity = "x0"
) -> Combination:
    """Return the formula's step with D held at its last value, as a combination of y, m and noise.

    It reaches and leaves every level, also pure noise (alpha = 0) and the clean image (sigma = 0). There are
    two exceptions: x0 cannot leave sigma_s = 0, and eps cannot leave alpha_s = 0.

    Args:
        s: where the state is; sigma_s > 0.
        t: where it goes.
        decay: e^{-tau^2 h} in [0, 1], the share of the old noise that is kept: 1 is deterministic, and
            e^{-h} itself is the reverse SDE.
        quantity: what m is.

    >>> first_order_step(Level(1.0, 0.0, 1.0), Level(0.0, 1.0, 0.0))
    Combination(x=0.0, y=0.0, m=(1.0,), z=0.0)
    """
    kept = t.sigma * decay  # x_t = alpha_t x0 + kept eps + sqrt(sigma_t^2 - kept^2) z
    y, m = {
        "x0": lambda: (kept / s.sigma, t.alpha - s.alpha * kept / s.sigma),
        "eps": lambda: (t.alpha / s.alpha, kept - t.alpha * s.sigma / s.alpha),
        "v": lambda: (
            kept / s.sigma + s.alpha * (t.alpha - s.alpha * kept / s.sigma),
            s.alpha * kept - t.alpha * s.sigma,
        ),
    }[quantity]()
    return Combination(y=y, m=(m,), z=t.sigma * math.sqrt(1 - decay**2))


def transfer(s: Level[float], t: Level[float], weights: Sequence[float]) -> Combination:
    """Return DDIM's step along a weighted mean of the last noise predictions (PNDM eq. 11).

    At pure noise, where eps says nothing, the step is on x0: see `snowmelt.plans.unrolling`.

    >>> transfer(Level(0.5, 0.6, 0.8), Level(0.0, 1.0, 0.0), (1.5, -0.5)).m
    (-2.0, 0.66...)
    """
    step = first_order_step(s, t, quantity="eps" if s.alpha else "x0")
    return step._replace(m=tuple(step.m[0] * weight for weight in weights))


# -- steps through several outputs ---------------------------------------------------------------------


def interpolatory_weights(nodes: Sequence[float], moments: Sequence[float]) -> tuple[float, ...]:
    """Return the weights w with sum_j w_j nodes_j^n = moments_n for n = 0, 1, ..., one power for each node.

    They integrate the polynomial through any values at the nodes. The system is solved as Björck and Pereyra
    (1970, Mathematics of Computation 24) do, which keeps every digit; at six nodes Gauss's elimination loses
    half of them.

    Args:
        nodes: all different.
        moments: the integrals of the powers 0, 1, 2, ...

    >>> interpolatory_weights([0.0, -1.0], [1.0, 1 / 2])  # Adams and Bashforth's, of order 2
    (1.5, -0.5)
    """
    x, w = [float(node) for node in nodes], [float(moment) for moment in moments]
    for k in range(len(x) - 1):
        for i in range(len(x) - 1, k, -1):
            w[i] -= x[k] * w[i - 1]
    for k in range(len(x) - 2, -1, -1):
        for i in range(k + 1, len(x)):
            w[i] /= x[i] - x[i - k - 1]
        for i in range(k, len(x) - 1):
            w[i] -= w[i + 1]
    return tuple(w)


def mean_weights(nodes: Sequence[float]) -> tuple[float, ...]:
    """Return the weights of a polynomial's mean over [0, 1], whose moments are 1, 1/2, 1/3, ...

    >>> mean_weights([0.0, -1.0])
    (1.5, -0.5)
    """
    return interpolatory_weights(nodes, [1 / (n + 1) for n in range(len(nodes))])


def multistep_weights(
    s: Level[float],
    t: Level[float],
    nodes: Sequence[float],
    tau: float = 0.0,
    quantity: Quantity = "x0",
    coordinate: Coordinate = np.asarray,
    slope: Slope = "exact",
    curvature: float = 1.0,
) -> tuple[float, ...]:
    """Return the weights of the outputs at `nodes` in the step from `s` to `t`.

    Args:
        s: where the state is.
        t: where it goes; lam_s and lam_t are finite.
        nodes: lam of each output, all different and finite.
        tau: stochasticity, >= 0; 0 for v.
        quantity: what the outputs are; v needs a variance-preserving schedule.
        coordinate: lam -> the coordinate of the polynomial, strictly monotone; lam itself by default.
        slope: a key of `snowmelt.plans.moments.SLOPES`, which gives M_1 where there are two nodes.
        curvature: factor of M_2 where there are three nodes.

    Returns:
        One weight a node: for x0, alpha_t (1 + tau^2) Integral_{-h}^0 e^{(1 + tau^2) u} l_j(u) du, where l_j
        is the polynomial that is 1 at node j and 0 at the others.

    >>> s, t = Level(0.5, 0.6, 0.8), Level(0.4, 0.8, 0.6)
    >>> (weight,) = multistep_weights(s, t, [s.lam])
    >>> math.isclose(weight, first_order_step(s, t).m[0])
    True
    """
    theta = share_of_step(s, t, coordinate)(np.asarray(nodes, dtype=np.float64))
    of_powers = moments(s, t, len(nodes), tau, quantity, coordinate, slope, curvature)
    return interpolatory_weights(theta.tolist(), of_powers.tolist())


def multistep_step(
    s: Level[float],
    t: Level[float],
    nodes: Sequence[float],
    tau: float = 0.0,
    quantity: Quantity = "x0",
    coordinate: Coordinate = np.asarray,
    slope: Slope = "exact",
    curvature: float = 1.0,
) -> Combination:
    """Return the whole step from `s` to `t`, as a combination of y, outputs and noise.

    The arguments are those of `multistep_weights`. With the output at `s` alone it is `first_order_step`,
    which may leave and reach infinite levels; at pure noise that step is on x0 in place of eps.

    >>> s, t = Level(0.5, 0.6, 0.8), Level(0.4, 0.8, 0.6)
    >>> multistep_step(s, t, [s.lam], quantity="eps").y == t.alpha / s.alpha
    True
    """
    noisy_eps = tau > 0 and quantity == "eps" and t.sigma > 0
    if list(nodes) == [s.lam] and not noisy_eps:
        decay = ratio(s, t) ** (tau**2) if quantity == "x0" else 1.0
        return first_order_step(s, t, decay, "x0" if s.alpha == 0 and quantity == "eps" else quantity)
    h = t.lam - s.lam
    y, z = {
        "x0": (
            t.sigma / s.sigma * math.exp(-(tau**2) * h),
            t.sigma * math.sqrt(-math.expm1(-2 * tau**2 * h)),
        ),
        "eps": (t.alpha / s.alpha, tau * t.sigma * math.sqrt(math.expm1(2 * h)) if tau else 0.0),
        "v": (1.0, 0.0),
    }[quantity]
    weights = multistep_weights(s, t, nodes, tau, quantity, coordinate, slope, curvature)
    return Combination(y=y, m=weights, z=z)


# -- rows ----------------------------------------------------------------------------------------------


def step_order(levels: Sequence[Level[float]], i: int, order: int, lower_order_final: bool = True) -> int:
    """Return the order that step i, from level i to level i + 1, can have.

    It grows by one a step at the start, is 1 next to an infinite lam, and where `lower_order_final` is set
    also falls by one a step to 1 at the end.

    >>> levels = [Level(t, 1.0, t) for t in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)]
    >>> [step_order(levels, i, 3) for i in range(5)]
    [1, 2, 3, 2, 1]
    >>> [step_order(levels, i, 3, lower_order_final=False) for i in range(5)]
    [1, 2, 3, 3, 1]
    """
    if math.isinf(levels[i].lam) or math.isinf(levels[i + 1].lam):
        return 1
    usable = i + 1 - math.isinf(levels[0].lam)
    left = len(levels) - 1 - i
    return min(order, usable, left) if lower_order_final else min(order, usable)


def claimed_order(order: int, corrector_order: int = 0, lower_order_final: bool = False) -> int:
    """Return the order of convergence of a predictor with a corrector.

    >>> claimed_order(2, 3), claimed_order(2, 3, lower_order_final=True)
    (3, 2)
    """
    best = max(order, min(corrector_order, order + 1))
    return min(best, 2) if lower_order_final else best  # a last step of order 1 costs its length squared


def multistep_rows(
    levels: Sequence[Level[float]],
    step: Step,
    order: int,
    corrector_order: int = 0,
    lower_order_final: bool = False,
) -> tuple[Row, ...]:
    """Return the rows of a multistep method, which may correct each state once its output is known.

    Args:
        levels: of every evaluation, then of the result.
        step: makes the step from s to t out of the outputs at the given lam, newest first.
        order: outputs that a prediction looks at, as far as `step_order` lets it.
        corrector_order: outputs that a correction looks at, the newest included; 0: no correction.
        lower_order_final: let the order fall to 1 over the last steps.

    >>> from snowmelt.core import RectifiedFlow
    >>> levels = [RectifiedFlow()(t) for t in (0.9, 0.5, 0.2, 0.1)]
    >>> rows = multistep_rows(levels, multistep_step, order=2, corrector_order=3)
    >>> [len(row.advance.m) for row in rows], [len(row.correct.m) for row in rows]
    ([1, 2, 2], [0, 2, 3])
    """

    def of_outputs(i: int, newest: int, count: int) -> Combination:
        nodes = [level.lam for level in levels[newest - count + 1 : newest + 1][::-1]]
        return step(levels[i], levels[i + 1], nodes)

    def predict(i: int) -> Combination:
        return of_outputs(i, i, step_order(levels, i, order, lower_order_final))

    def correct(i: int) -> Combination:
        if math.isinf(levels[i].lam) or math.isinf(levels[i + 1].lam):
            return TO_BASE  # the prediction stands
        # The newest output, and as many older ones as a prediction could have
        count = 1 + step_order(levels, i, corrector_order - 1, lower_order_final)
        return from_base(of_outputs(i, i + 1, count))

    steps = range(len(levels) - 1)
    if not corrector_order:
        return tuple(Row(levels[i], predict(i)) for i in steps)
    # x holds the corrected state: both the next prediction and its correction start from there
    corrections = [TO_BASE, *(correct(i) for i in steps[:-1])]
    return tuple(Row(levels[i], from_base(predict(i)), corrections[i]) for i in steps)


def from_base(step: Combination) -> Combination:
    """Return a step that starts from y as one that starts from the base state."""
    return step._replace(x=step.y, y=0.0)


# -- what several solvers share ------------------------------------------------------------------------


def out_of_frame(combination: Combination, to: float, x: float = 1.0, y: float = 1.0) -> Combination:
    """Return a combination written for scaled states as one for the states themselves.

    Some methods are written for x / scale: in k-diffusion's frame scale = alpha, in a rectified flow's
    alpha + sigma.

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


def between(
    schedule: NoiseSchedule, s: Level[float], t: Level[float], r: float, decay: float = 1.0
) -> Level[float]:
    """Return the level at the share `r` of the way in lam from s to t, or to `decay` times the noise of t.

    >>> from snowmelt.core import VE
    >>> schedule = VE(rho=1.0)
    >>> round(between(schedule, schedule(0.5), schedule(0.125), 0.5).sigma, 9)  # of 40 and 10
    20.0
    """
    return schedule(schedule.t_of_lam(s.lam + r * (t.lam - math.log(decay) - s.lam)))


def slope_of(solver_type: Literal["midpoint", "heun"]) -> Slope:
    """Return the slope's moment by the name that DPM-Solver's code gives it."""
    slopes: dict[str, Slope] = {"midpoint": "midpoint", "heun": "exact"}
    if solver_type not in slopes:
        raise ValueError(f"solver_type must be one of {', '.join(slopes)}, got {solver_type!r}")
    return slopes[solver_type]


def tau_of(eta: float) -> float:
    """Return tau for k-diffusion's `eta`, which is tau^2: the old noise decays by e^{-eta h}."""
    if not 0.0 <= eta < math.inf:
        raise ValueError(f"eta must be at least 0 (0 is deterministic, 1 the reverse SDE), got {eta}")
    return math.sqrt(eta)
