"""Which steps of a plan a learned variance can widen.

A plan is a table of numbers, and a variance that a network has learned is a number a pixel. They meet in the
noise of an ancestral step. From level s to level t, with beta = 1 - (alpha_s / alpha_t)^2 where the variance
is preserved, the step's variance lies between the posterior's, beta' = beta sigma_t^2 / sigma_s^2 (DDPM
eq. 7), and beta. A network's v interpolates the logarithms (Nichol & Dhariwal 2021, eq. 15):

    log variance = f log beta + (1 - f) log beta',    f = (v + 1) / 2.

The table has the posterior's noise, and beta / beta' = (sigma_s / sigma_t)^2 follows from its levels. So the
learned noise is the table's, times (sigma_s / sigma_t)^f, and a plan needs no entry for it. Levels of a
sub-sequence of the trained indices have the beta and beta' of the respaced chain (section 4 of the paper).

A step is known as ancestral by its numbers: `ddpm`, `ddim` with eta = 1 and a saved table are the same plan,
and make the same images.
"""

from __future__ import annotations

import math

from snowmelt.core import Level
from snowmelt.plans.builder import first_order_step, ratio
from snowmelt.plans.plan import Plan, Row

__all__ = ["widths"]


def widths(plan: Plan) -> tuple[float, ...]:
    """Return how many times as wide as the table says the noise of each row can be, >= 1.

    It is sigma_s / sigma_t where the row draws from DDPM's posterior. It is 1 for all others: for those that
    draw no noise, such as the last one, and for stochastic methods that combine several evaluations.

    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.plans import make_plan
    >>> widths(make_plan(RectifiedFlow(), "ddpm", steps=4))
    (1.33..., 1.5, 2.0, 1.0)
    >>> widths(make_plan(RectifiedFlow(), "ddim", steps=4))
    (1.0, 1.0, 1.0, 1.0)
    """
    if plan.quantity != "x0" or plan.history != 1 or plan.corrects:
        return (1.0,) * plan.nfe
    return tuple(
        row.level.sigma / t.sigma if _draws_posterior(row, t) else 1.0
        for row, t in zip(plan.rows, plan.levels[1:], strict=True)
    )


def _draws_posterior(row: Row, t: Level[float]) -> bool:
    (x, y, m, z), s = row.advance, row.level
    falls = s.alpha * t.sigma < t.alpha * s.sigma  # a row of a joined plan may end above its level
    if not z or x or len(m) != 1 or not falls:
        return False
    # DDPM eq. 6 and 7
    posterior = first_order_step(s, t, decay=ratio(s, t))
    numbers = zip((y, *m, z), (posterior.y, *posterior.m, posterior.z), strict=True)
    return all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12) for a, b in numbers)
