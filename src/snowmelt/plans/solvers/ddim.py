"""Denoising diffusion implicit models (Song, Meng and Ermon 2021, https://arxiv.org/abs/2010.02502).

Euler's method in the noise level is the same table. In the frame x / alpha the probability flow is driven by
n = sigma / alpha alone,

    d(x / alpha) / dn = (x / alpha - D) / n                        (Karras et al. 2022, eq. 1 and 3),

and Euler's step from n_s down to n_t holds that slope fixed (Song et al. 2021, section 4.3),

    x_t / alpha_t = (n_t / n_s) x_s / alpha_s + (1 - n_t / n_s) D.

Euler's step on a rectified flow is this one again. k-diffusion's ancestral form steps down further than n_t
and comes up again by fresh noise, n_up = eta n_t sqrt(1 - n_t^2 / n_s^2): that is DDIM's eta.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from snowmelt.core import NoiseSchedule
from snowmelt.plans.builder import ancestral_decay, first_order_step
from snowmelt.plans.plan import Plan, Row

__all__ = ["ddim"]


def ddim(schedule: NoiseSchedule, times: Sequence[float], *, eta: float = 0.0) -> Plan:
    """Return DDIM's plan on `times`: the first-order exponential integrator, with eta's share of fresh noise.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        eta: in [0, 1]; 0 is deterministic, 1 is ancestral sampling (DDPM).

    >>> from snowmelt.core import RectifiedFlow
    >>> ddim(RectifiedFlow(), [1.0, 0.5, 0.0])
    <Plan ddim: 2 evaluations, t = 1 -> 0, deterministic, on x0>
    """
    levels = [schedule(t) for t in times]
    rows = [Row(s, first_order_step(s, t, ancestral_decay(s, t, eta))) for s, t in pairwise(levels)]
    return Plan(tuple(rows), levels[-1], name="ddim")
