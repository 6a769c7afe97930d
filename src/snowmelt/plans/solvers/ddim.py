"""Denoising diffusion implicit models (Song, Meng and Ermon 2021, https://arxiv.org/abs/2010.02502)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import first_order_step, ratio
from snowmelt.plans.plan import Plan, Row

__all__ = ["ddim"]


def ddim(schedule: NoiseSchedule, times: Sequence[float], *, eta: float = 0.0) -> Plan:
    """Return DDIM's plan on `times`: the first-order exponential integrator, with eta's share of fresh noise.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        eta: 0 is deterministic, 1 is ancestral sampling (DDPM).

    >>> from snowmelt.core import RectifiedFlow
    >>> ddim(RectifiedFlow(), [1.0, 0.5, 0.0])
    <Plan ddim: 2 evaluations, t = 1 -> 0, deterministic, on x0>
    """
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta must lie in [0, 1] (0 is deterministic, 1 is DDPM), got {eta}")
    levels = [schedule(t) for t in times]
    rows = []
    for s, t in pairwise(levels):
        # DDIM eq. 16: the fresh noise has standard deviation eta sigma_t sqrt(1 - e^{-2h}), and eq. 12 gives
        # the old noise the rest of sigma_t^2
        decay = math.sqrt(1 - eta**2 * (1 - ratio(s, t) ** 2))
        rows.append(Row(s, first_order_step(s, t, decay)))
    return Plan(tuple(rows), levels[-1], name="ddim")
