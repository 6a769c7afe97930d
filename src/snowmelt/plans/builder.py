"""From one formula to the coefficients of a step.

Over a step from level s to level t, with h = lam_t - lam_s, u = lam - lam_t, and stochasticity tau (0: the
ODE, 1: the reverse SDE), the exact solution for a denoiser D is

    x_t = (sigma_t/sigma_s) e^{-tau^2 h} x_s
        + alpha_t (1 + tau^2) * Integral_{-h}^0 e^{(1 + tau^2) u} D(u) du
        + sigma_t sqrt(1 - e^{-2 tau^2 h}) z

(SA-Solver, Xue et al. 2023; tau = 0 is DPM-Solver++, Lu et al. 2022). A multistep method puts
in place of D(u) the polynomial P(u) through the last k outputs; the integrals of the Lagrange polynomials are
the weights of those outputs. With k = 1, tau = 0 this is DDIM and with k = 1, tau = 1 the DDPM posterior.

The same for eps in place of the image (DPM-Solver, DEIS) is the ODE

    x_t = (alpha_t/alpha_s) x_s - alpha_t Integral e^{-lam} E(lam) dlam,

and for v on a variance-preserving schedule, where alpha = cos phi and sigma = sin phi, a plain integral,

    x_t = x_s + Integral V(phi) dphi.

A corrector is the same step again with the newest output, at t, among its nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from snowmelt.core import Level
from snowmelt.plans.plan import Combination, Plan, Quantity, Row

__all__ = [
    "exponential_quadrature",
    "first_order_step",
    "multistep_step",
    "multistep_weights",
    "out_of_frame",
    "plan_on_eps",
    "predictor_corrector",
    "ratio",
    "step_order",
]


def ratio(s: Level[float], t: Level[float]) -> float:
    """Return e^{-h} = (alpha_s sigma_t) / (alpha_t sigma_s), which needs no logarithm at either end.

    >>> ratio(Level(1.0, 0.0, 1.0), Level(0.5, 0.6, 0.8))
    0.0
    """
    return (s.alpha * t.sigma) / (t.alpha * s.sigma)


def first_order_step(
    s: Level[float], t: Level[float], decay: float = 1.0, quantity: Quantity = "x0"
) -> Combination:
    """Return the formula's step with D held at its last value, as a combination of y, m and noise.

    It reaches and leaves every level, pure noise (alpha = 0) and the clean image (sigma = 0) included, but
    for the two that say nothing: x0 at sigma_s = 0 and eps at alpha_s = 0.

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
    s: Level[float],
    t: Level[float],
    nodes: Sequence[float],
    tau: float = 0.0,
    quantity: Quantity = "x0",
    coordinate: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> tuple[float, ...]:
    """Return the weights of the outputs whose polynomial stands in for the true one between `s` and `t`.

    Args:
        s: where the state is.
        t: where it goes; lam_s and lam_t are finite.
        nodes: lam of each output, all different, and finite unless `coordinate` makes them so.
        tau: stochasticity, >= 0; 0 for v.
        quantity: what the outputs are; v asks for a variance-preserving schedule.
        coordinate: lam -> what the polynomial is one in, strictly monotone; lam itself by default.

    Returns:
        One weight a node: for x0, alpha_t (1 + tau^2) Integral_{-h}^0 e^{(1 + tau^2) u} l_j(u) du.

    >>> s, t = Level(0.5, 0.6, 0.8), Level(0.4, 0.8, 0.6)
    >>> (weight,) = multistep_weights(s, t, [s.lam])
    >>> math.isclose(weight, first_order_step(s, t).m[0])
    True
    """
    rate = 1 + tau**2
    u, du = exponential_quadrature(t.lam - s.lam, rate)
    if quantity == "x0":
        mass = t.alpha * rate * np.exp(rate * u) * du
    elif quantity == "eps":  # alpha_t e^{-lam} = sigma_t e^{-u}
        mass = -t.sigma * rate * np.exp(-u) * du
    else:  # phi = arctan e^{-lam}, so that dphi = -dlam / (2 cosh lam)
        mass = -du / (2 * np.cosh(t.lam + u))
    at, points = coordinate(t.lam + u), coordinate(np.asarray(nodes, dtype=np.float64))
    return tuple(float((mass * _lagrange(points, j, at)).sum()) for j in range(len(points)))


def exponential_quadrature(h: float, rate: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return points u and weights that integrate e^{rate u} times a smooth function from -h to 0.

    Gauss-Legendre in panels no longer than two decay lengths: exact to rounding for polynomials.

    >>> u, du = exponential_quadrature(3.0)
    >>> math.isclose((np.exp(u) * du).sum(), -math.expm1(-3.0))
    True
    """
    panels = max(1, math.ceil(rate * abs(h) / 2))
    edges = np.linspace(-h, 0.0, panels + 1)
    x, w = np.polynomial.legendre.leggauss(20)
    width = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + width * (x + 1)).ravel(), (width * w).ravel()


def multistep_step(
    s: Level[float],
    t: Level[float],
    nodes: Sequence[float],
    tau: float = 0.0,
    quantity: Quantity = "x0",
    coordinate: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Combination:
    """Return the whole step from `s` to `t`, as a combination of y, outputs and noise.

    Arguments are those of `multistep_weights`. Between infinite levels, or without nodes, that step does not
    exist: `first_order_step` does.

    >>> s, t = Level(0.5, 0.6, 0.8), Level(0.4, 0.8, 0.6)
    >>> multistep_step(s, t, [s.lam], quantity="eps").y == t.alpha / s.alpha
    True
    """
    h = t.lam - s.lam
    # SA-Solver (x0) and its appendix on noise prediction (eps)
    y, z = {
        "x0": (
            t.sigma / s.sigma * math.exp(-(tau**2) * h),
            t.sigma * math.sqrt(-math.expm1(-2 * tau**2 * h)),
        ),
        "eps": (t.alpha / s.alpha, tau * t.sigma * math.sqrt(math.expm1(2 * h)) if tau else 0.0),
        "v": (1.0, 0.0),
    }[quantity]
    return Combination(y=y, m=multistep_weights(s, t, nodes, tau, quantity, coordinate), z=z)


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


def predictor_corrector(
    levels: Sequence[Level[float]],
    predict: Callable[[int], Combination],
    correct: Callable[[int], Combination | None] | None = None,
) -> tuple[Row, ...]:
    """Return the rows of a multistep method that may correct each state once its output is known.

    Args:
        levels: of every evaluation, then of the result.
        predict: i -> the step from level i to level i + 1, as a combination of y, outputs and noise.
        correct: i -> the same step again, with the output at level i + 1 before the others; or None, where
            the prediction stands. No corrector at all if None.

    >>> from snowmelt.core import RectifiedFlow
    >>> levels = [RectifiedFlow()(t) for t in (0.9, 0.5, 0.1)]
    >>> predict = lambda i: first_order_step(levels[i], levels[i + 1])
    >>> rows = predictor_corrector(levels, predict, lambda i: predict(i)._replace(m=(0.0, *predict(i).m)))
    >>> rows[1].correct.y, rows[1].correct.x == rows[0].advance.x
    (0.0, True)
    """
    steps = range(len(levels) - 1)
    if correct is None:
        return tuple(Row(levels[i], predict(i)) for i in steps)
    # x holds the corrected state: both the next prediction and its correction start from there
    corrections = [None, *(correct(i) for i in steps[:-1])]
    return tuple(
        Row(level, _of_x(predict(i)), _of_x(correction) if correction else Combination(y=1.0))
        for i, (level, correction) in enumerate(zip(levels, corrections, strict=False))
    )


def plan_on_eps(rows: Sequence[Row], end: Level[float], order: int, name: str) -> Plan:
    """Return the plan of a deterministic method on eps, which may start at pure noise.

    There alpha = 0, eps is y / sigma whatever the network says, and only the image itself tells the first
    step where to go: its row has the weight of x0. No quantity but x0 serves such a table from end to end,
    so it is unrolled: every state becomes a combination of the first state and of all images since.

    Args:
        rows: the table on eps; at alpha = 0 the first row's advance is on x0.
        end: the level of the result.
        order: as in `Plan`.
        name: as in `Plan`.

    >>> from snowmelt.core import RectifiedFlow
    >>> levels = [RectifiedFlow()(t) for t in (1.0, 0.5, 0.0)]
    >>> rows = [Row(levels[0], first_order_step(*levels[:2])), Row(levels[1], Combination(y=2.0, m=(-1.0,)))]
    >>> plan_on_eps(rows, levels[-1], 1, "ddim").rows[1].advance
    Combination(x=0.0, y=0.0, m=(1.0, 0.0), z=0.0)
    """
    start = rows[0].level
    if start.alpha > 0:
        return Plan(tuple(rows), end, "eps", order, name)
    basis = np.eye(len(rows) + 1)  # the first state, then the image of each row
    x = y = basis[0]
    outputs: list[np.ndarray] = []
    unrolled = []
    for i, (level, advance, correct) in enumerate(rows):
        image = basis[i + 1]
        outputs.insert(0, (y - level.alpha * image) / level.sigma)
        x = _apply(correct, x, y, outputs)
        y = _apply(advance, x, y, outputs if i else [image])
        unrolled.append(Row(level, Combination(x=float(y[0]), m=tuple(y[i + 1 : 0 : -1].tolist()))))
    return Plan(tuple(unrolled), end, "x0", order, name)


def _of_x(step: Combination) -> Combination:
    """Return a step that starts from y as one that starts from the base state."""
    return step._replace(x=step.y, y=0.0)


def _apply(c: Combination, x: np.ndarray, y: np.ndarray, outputs: Sequence[np.ndarray]) -> np.ndarray:
    return sum((w * m for w, m in zip(c.m, outputs, strict=False)), c.x * x + c.y * y)


def _lagrange(nodes: np.ndarray, j: int, at: np.ndarray) -> np.ndarray:
    """Return the polynomial that is 1 at node j and 0 at the others, evaluated at `at`."""
    others = [(at - node) / (nodes[j] - node) for i, node in enumerate(nodes) if i != j]
    return np.prod(others, axis=0) if others else np.ones_like(at)
