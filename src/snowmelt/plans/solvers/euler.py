"""Euler's method in the noise level.

In the frame x_hat = x_t / alpha the probability flow is driven by n = sigma / alpha alone,

    dx_hat / dn = (x_hat - D(x_t)) / n                        (Karras et al. 2022, eq. 1 and 3),

and Euler's step from n_s down to n_t holds that slope fixed:

    x_hat_t = (n_t / n_s) x_hat_s + (1 - n_t / n_s) D(x_s).

Back in x_t this is DDIM's step, number by number (Song et al. 2021, section 4.3). The ancestral form steps
further down than n_t and makes up for it with fresh noise, and is DDIM with eta. In the frame of a rectified
flow, x_t / (alpha + sigma), Euler's step is this one again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from snowmelt.core import NoiseSchedule
from snowmelt.plans.plan import Plan
from snowmelt.plans.solvers.ddim import ddim

__all__ = ["euler", "euler_ancestral"]


def euler(schedule: NoiseSchedule, times: Sequence[float]) -> Plan:
    """Return Euler's plan on `times`; the table is DDIM's.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.

    >>> from snowmelt.core import VE
    >>> plan = euler(VE(rho=1.0), [0.5, 0.25, 0.0])  # sigma = 40, 20, 0
    >>> plan.rows[0].advance
    Combination(x=0.0, y=0.5, m=(0.5,), z=0.0)
    """
    return replace(ddim(schedule, times), name="euler")


def euler_ancestral(schedule: NoiseSchedule, times: Sequence[float], *, eta: float = 1.0) -> Plan:
    """Return the plan that steps down to n_down by Euler and up again to n_t by fresh noise.

    With n_up = eta n_t sqrt(1 - n_t^2 / n_s^2) and n_down^2 = n_t^2 - n_up^2 (k-diffusion) the table is that
    of DDIM with the same eta, and of DDPM for eta = 1.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        eta: in [0, 1]; 0 is `euler`.

    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.plans.solvers.ddpm import ddpm
    >>> times = [1.0, 0.5, 0.0]
    >>> euler_ancestral(RectifiedFlow(), times) == ddpm(RectifiedFlow(), times)
    True
    """
    return replace(ddim(schedule, times, eta=eta), name="euler_ancestral")
