"""DPM-Solver++(2S) for the reverse SDE (Lu et al. 2022b, https://arxiv.org/abs/2211.01095; k-diffusion).

A stochastic step goes a share r of the way in lam, and a second one goes all the way, with an image that
is extrapolated to the middle of the step: m_s + (m_stage - m_s) / (2 r). Fresh noise comes in the ancestral
way of DDIM. The second evaluation must see the noise that the step will end with, or the weak order is 1: W,
the noise in units of alpha, is a Brownian path in sigma / alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import TO_BASE, ancestral_decay, between, first_order_step
from snowmelt.plans.plan import Combination, Plan, Row

__all__ = ["dpmpp_sde"]


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

    Args:
        schedule: any; it is asked for levels between the given times.
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
        stage = between(schedule, s, t, r)
        to_stage = first_order_step(s, stage, ancestral_decay(s, stage, eta))
        (weight,) = step.m
        m = (weight / (2 * r), weight * (1 - 1 / (2 * r)))
        # W(n_s) - W(n_t) has a share of W(n_s) - W(n_stage) in it, n = sigma/alpha
        n_s, n_stage, n_t = (level.sigma / level.alpha for level in (s, stage, t))
        seen = (n_s - n_stage) / (n_s - n_t) if brownian else 0.0
        shared, fresh = step.z * math.sqrt(seen), step.z * math.sqrt(1 - seen)
        rows.append(Row(s, to_stage, correct=TO_BASE))
        rows.append(Row(stage, Combination(x=1.0, m=m, z=fresh), correct=Combination(x=step.y, z=shared)))
    return Plan(tuple(rows), levels[-1], order=2 if brownian or eta == 0 else 1, name="dpmpp_sde")
