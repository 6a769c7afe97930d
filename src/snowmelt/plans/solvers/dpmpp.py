"""DPM-Solver++ (Lu et al. 2022b, https://arxiv.org/abs/2211.01095): exponential integrators on the image.

Over a step from s to t, with h = lam_t - lam_s and z = -(1 + eta) h, an image that changes like the
polynomial D(theta) = m + theta m' + theta^2 m'', theta = (lam - lam_s) / h, moves the state to

    x_t = (sigma_t/sigma_s) e^{-eta h} x_s - alpha_t z (phi_1(z) m + phi_2(z) m' + 2 phi_3(z) m'')
        + sigma_t sqrt(1 - e^{-2 eta h}) noise.

phi_k are the functions of all exponential integrators; eta = 0 is the ODE, eta = 1 the reverse SDE. The
value m, slope m' and curvature m'' come from the last outputs (multistep) or from outputs inside the step
(singlestep). Noise prediction, `snowmelt.plans.solvers.dpm_solver`, is the same with z = h and sigma_t for alpha_t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import first_order_step, ratio, step_order
from snowmelt.plans.plan import Combination, Plan, Row

__all__ = [
    "SolverType",
    "ancestral_decay",
    "between",
    "check_solver_type",
    "dpmpp_2m",
    "dpmpp_2s",
    "dpmpp_3m",
    "moments",
    "multistep_rows",
    "phi",
    "taylor_weights",
]

SolverType = Literal["midpoint", "heun"]


# -- solvers -------------------------------------------------------------------------------------------


def dpmpp_2s(schedule: NoiseSchedule, times: Sequence[float], *, eta: float = 0.0) -> Plan:
    """Return DPM-Solver++(2S)'s plan: each step looks once at its beginning and once half way in lam.

    It takes two evaluations a step, one where lam is infinite at either end.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        eta: share of fresh noise, in [0, 1]: 0 is deterministic; above, a step ends lower and fresh noise
            lifts the state back (k-diffusion's `dpmpp_2s_ancestral`).

    >>> from snowmelt.core import RectifiedFlow
    >>> dpmpp_2s(RectifiedFlow(), [0.9, 0.5, 0.0])
    <Plan dpmpp_2s: 3 evaluations, t = 0.9 -> 0, deterministic, on x0>
    """
    levels = [schedule(t) for t in times]
    rows: list[Row] = []
    for s, t in pairwise(levels):
        decay = ancestral_decay(s, t, eta)
        step = first_order_step(s, t, decay)
        if math.isinf(s.lam) or math.isinf(t.lam):
            rows.append(Row(s, step))
            continue
        # DPM-Solver++ algorithm 1 with r = 1/2, towards the level that the noise then lifts to t
        middle = between(schedule, s.lam, s.lam - math.log(ratio(s, t) * decay), 0.5)
        rows.append(Row(s, first_order_step(s, middle), correct=Combination(y=1.0)))
        rows.append(Row(middle, Combination(x=step.y, m=step.m, z=step.z)))
    return Plan(tuple(rows), levels[-1], order=2, name="dpmpp_2s")


def dpmpp_2m(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    solver_type: SolverType = "midpoint",
    lower_order_final: bool = False,
) -> Plan:
    """Return DPM-Solver++(2M)'s plan: second order with one evaluation a step (its algorithm 2).

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        solver_type: weighs the slope with phi_1 / 2 (``midpoint``, the paper's) or with phi_2 (``heun``, the
            exact integral of a straight line).
        lower_order_final: take the last step in first order also where it ends above sigma = 0.

    >>> from snowmelt.core import RectifiedFlow
    >>> dpmpp_2m(RectifiedFlow(), [1.0, 0.5, 0.0])
    <Plan dpmpp_2m: 2 evaluations, t = 1 -> 0, deterministic, on x0>
    """
    check_solver_type(solver_type)
    levels = [schedule(t) for t in times]
    rows = multistep_rows(levels, 2, solver_type, lower_order_final=lower_order_final)
    return Plan(rows, levels[-1], order=2, name="dpmpp_2m")


def dpmpp_3m(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    as_published: bool = True,
    lower_order_final: bool = False,
) -> Plan:
    """Return DPM-Solver++(3M)'s plan: value, slope and curvature from the last three outputs.

    The authors' code, and with it k-diffusion and diffusers, weighs the curvature with phi_3 where the
    integral of a parabola asks for 2 phi_3: so its order is 2, though its error is smaller than that of 2M.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        as_published: keep that weight; False takes the integral's, and has order 3.
        lower_order_final: let no step have a higher order than there are steps left.

    >>> from snowmelt.core import RectifiedFlow
    >>> dpmpp_3m(RectifiedFlow(), [1.0, 0.6, 0.3, 0.0], as_published=False).order
    3
    """
    levels = [schedule(t) for t in times]
    rows = multistep_rows(levels, 3, "heun", 0.0, as_published, lower_order_final)
    return Plan(rows, levels[-1], order=2 if as_published else 3, name="dpmpp_3m")


# -- what the family shares ----------------------------------------------------------------------------


def phi(k: int, z: float) -> float:
    """Return phi_k(z) = sum over n >= 0 of z^n / (n + k)!, for k >= 1: phi_1 = (e^z - 1)/z, ...

    >>> phi(1, 2.0) == math.expm1(2.0) / 2.0
    True
    >>> phi(2, 0.0), phi(2, 1e-9)
    (0.5, 0.500000000...)
    """
    if abs(z) < 1:  # where the recursion below would cancel
        return math.fsum(z**n / math.factorial(n + k) for n in range(18))
    if k == 1:
        return math.expm1(z) / z
    return (phi(k - 1, z) - 1 / math.factorial(k - 1)) / z


def moments(z: float, order: int, solver_type: SolverType, as_published: bool = False) -> tuple[float, ...]:
    """Return the weights of value, slope and curvature, `order` of them, in units of -z.

    Args:
        z: -(1 + eta) h for the image, h for the noise.
        order: 1, 2 or 3.
        solver_type: ``midpoint`` weighs the slope as if all change came at the middle.
        as_published: weigh the curvature with phi_3 instead of 2 phi_3.

    >>> moments(0.0, 3, "heun")  # integrals of 1, theta and theta^2
    (1.0, 0.5, 0.333...)
    """
    slope = phi(1, z) / 2 if solver_type == "midpoint" else phi(2, z)
    return (phi(1, z), slope, phi(3, z) if as_published else 2 * phi(3, z))[:order]


def taylor_weights(z: float, moments: Sequence[float], nodes: Sequence[float]) -> tuple[float, ...]:
    """Return what each output weighs in -z (moments[0] m + moments[1] m' + moments[2] m'').

    Args:
        z: as in `moments`.
        moments: as many as there are nodes, 1 to 3.
        nodes: theta of each output; the first is 0, where value, slope and curvature are taken.

    >>> taylor_weights(-1.0, (1.0, 0.5), (0.0, -1.0))
    (1.5, -0.5)
    """
    # Newton's divided differences: m'' = ([0, c] - [0, b]) / (c - b) and m' = [0, b] - b m''
    value, (_, *others) = moments[0], nodes
    if not others:
        return (-z * value,)
    if len(others) == 1:
        of_b = moments[1] / others[0]
        return (-z * (value - of_b), -z * of_b)
    b, c = others
    of_curvature = (moments[2] - b * moments[1]) / (c - b)
    of_b, of_c = (moments[1] - of_curvature) / b, of_curvature / c
    return (-z * (value - of_b - of_c), -z * of_b, -z * of_c)


def multistep_rows(
    levels: Sequence[Level[float]],
    order: int,
    solver_type: SolverType,
    eta: float = 0.0,
    as_published: bool = False,
    lower_order_final: bool = False,
) -> tuple[Row, ...]:
    """Return one row a step, each with the weights of the module's formula.

    Args:
        levels: of the evaluations and of the result.
        order: outputs that a step may look at, 1 to 3.
        solver_type: how the slope is weighed.
        eta: stochasticity, >= 0.
        as_published: how the curvature is weighed.
        lower_order_final: let no step have a higher order than there are steps left.
    """
    rows = []
    for i, (s, t) in enumerate(pairwise(levels)):
        step = first_order_step(s, t, decay=ratio(s, t) ** eta)
        k = step_order(levels, i, order, lower_order_final)
        if k > 1:
            h = t.lam - s.lam
            z = -(1 + eta) * h
            nodes = [(level.lam - s.lam) / h for level in levels[i + 1 - k : i + 1][::-1]]
            weights = taylor_weights(z, moments(z, k, solver_type, as_published), nodes)
            step = step._replace(m=tuple(t.alpha * weight for weight in weights))
        rows.append(Row(s, step))
    return tuple(rows)


def ancestral_decay(s: Level[float], t: Level[float], eta: float) -> float:
    """Return the share of sigma_t that is kept from the old noise when eta's share is fresh (DDIM eq. 16)."""
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta must lie in [0, 1] (0 is deterministic, 1 is ancestral), got {eta}")
    return math.sqrt(1 - eta**2 * (1 - ratio(s, t) ** 2))


def between(schedule: NoiseSchedule, lam_s: float, lam_t: float, r: float) -> Level[float]:
    """Return the level at lam_s + r (lam_t - lam_s)."""
    return schedule(schedule.t_of_lam(lam_s + r * (lam_t - lam_s)))


def check_solver_type(solver_type: str) -> None:
    """Refuse what is neither ``midpoint`` nor ``heun``."""
    if solver_type not in get_args(SolverType):
        raise ValueError(f"solver_type must be one of {', '.join(get_args(SolverType))}, got {solver_type!r}")
