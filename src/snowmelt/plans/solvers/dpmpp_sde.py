"""DPM-Solver++ for the reverse SDE (Lu et al. 2022b, https://arxiv.org/abs/2211.01095).

The formula of `snowmelt.plans.solvers.dpmpp` with eta > 0: a step forgets a share of the old noise and draws it anew.
The multistep methods spread eta evenly in lam (e^{-eta h}), the singlestep one in the ancestral way of DDIM,
both as k-diffusion has them; at eta = 1 the two agree, and at eta = 0 neither draws any noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import first_order_step
from snowmelt.plans.plan import Combination, Plan, Row
from snowmelt.plans.solvers.dpmpp import (
    SolverType,
    ancestral_decay,
    between,
    check_solver_type,
    multistep_rows,
)

__all__ = ["dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde"]


def dpmpp_sde(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    eta: float = 1.0,
    r: float = 0.5,
    brownian: bool = True,
) -> Plan:
    """Return the stochastic singlestep method's plan (SDE-DPM-Solver++(2S), k-diffusion's `dpmpp_sde`).

    It takes two evaluations a step, one where lam is infinite at either end, and draws noise after each.
    The second evaluation must see the noise that the step will end with, or the weak order falls to 1.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        eta: share of fresh noise, in [0, 1].
        r: where in the step, in lam, the second evaluation lies; in (0, 1).
        brownian: take both noises of a step from one Brownian path in sigma/alpha, as k-diffusion does by
            default; False draws them independently.

    >>> from snowmelt.core import RectifiedFlow
    >>> dpmpp_sde(RectifiedFlow(), [0.9, 0.5, 0.0])
    <Plan dpmpp_sde: 3 evaluations, t = 0.9 -> 0, stochastic, on x0>
    """
    if not 0.0 < r < 1.0:
        raise ValueError(f"r must lie in (0, 1) (the second evaluation's place in the step), got {r}")
    levels = [schedule(t) for t in times]
    rows: list[Row] = []
    for s, t in pairwise(levels):
        step = first_order_step(s, t, ancestral_decay(s, t, eta))
        if math.isinf(s.lam) or math.isinf(t.lam):
            rows.append(Row(s, step))
            continue
        stage = between(schedule, s.lam, t.lam, r)
        to_stage = first_order_step(s, stage, ancestral_decay(s, stage, eta))
        # A first-order step on m_s + (m_stage - m_s) / (2 r), a guess at the image half way
        (weight,) = step.m
        m = (weight / (2 * r), weight * (1 - 1 / (2 * r)))
        # W(n_s) - W(n_t) has a share of W(n_s) - W(n_stage) in it, n = sigma/alpha
        n_s, n_stage, n_t = (level.sigma / level.alpha for level in (s, stage, t))
        seen = (n_s - n_stage) / (n_s - n_t) if brownian else 0.0
        shared, fresh = step.z * math.sqrt(seen), step.z * math.sqrt(1 - seen)
        rows.append(Row(s, to_stage, correct=Combination(y=1.0)))
        rows.append(Row(stage, Combination(x=1.0, m=m, z=fresh), correct=Combination(x=step.y, z=shared)))
    return Plan(tuple(rows), levels[-1], order=2 if brownian or eta == 0 else 1, name="dpmpp_sde")


def dpmpp_2m_sde(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    eta: float = 1.0,
    solver_type: SolverType = "midpoint",
    lower_order_final: bool = False,
) -> Plan:
    """Return SDE-DPM-Solver++(2M)'s plan (DPM-Solver++, its SDE form, and k-diffusion's eta).

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        eta: stochasticity, >= 0: 0 is `dpmpp_2m`, 1 the reverse SDE.
        solver_type: weighs the slope with phi_1 / 2 (``midpoint``) or with phi_2 (``heun``).
        lower_order_final: take the last step in first order also where it ends above sigma = 0.

    >>> from snowmelt.core import RectifiedFlow
    >>> dpmpp_2m_sde(RectifiedFlow(), [1.0, 0.5, 0.0])
    <Plan dpmpp_2m_sde: 2 evaluations, t = 1 -> 0, stochastic, on x0>
    """
    check_solver_type(solver_type)
    _check_eta(eta)
    levels = [schedule(t) for t in times]
    rows = multistep_rows(levels, 2, solver_type, eta, lower_order_final=lower_order_final)
    return Plan(rows, levels[-1], order=2, name="dpmpp_2m_sde")


def dpmpp_3m_sde(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    eta: float = 1.0,
    as_published: bool = True,
    lower_order_final: bool = False,
) -> Plan:
    """Return the three-step method's plan for the reverse SDE (k-diffusion's `dpmpp_3m_sde`).

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        eta: stochasticity, >= 0: 0 is `dpmpp_3m`, 1 the reverse SDE.
        as_published: weigh the curvature as `dpmpp_3m` does.
        lower_order_final: let no step have a higher order than there are steps left.

    >>> from snowmelt.core import RectifiedFlow
    >>> dpmpp_3m_sde(RectifiedFlow(), [1.0, 0.6, 0.3, 0.0])
    <Plan dpmpp_3m_sde: 3 evaluations, t = 1 -> 0, stochastic, on x0>
    """
    _check_eta(eta)
    levels = [schedule(t) for t in times]
    rows = multistep_rows(levels, 3, "heun", eta, as_published, lower_order_final)
    return Plan(rows, levels[-1], order=2 if as_published or eta else 3, name="dpmpp_3m_sde")


def _check_eta(eta: float) -> None:
    if not 0.0 <= eta < math.inf:
        raise ValueError(f"eta must be at least 0 (0 is deterministic, 1 the reverse SDE), got {eta}")
