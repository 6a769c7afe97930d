"""EDM's stochastic sampler (Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2).

Before each of Heun's steps it raises the noise level: in the frame x / alpha, with n = sigma / alpha, by
noise of variance n_up^2 - n_t^2. In the table this belongs to the row that arrives at n_t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import out_of_frame
from snowmelt.plans.plan import Combination, Plan, Row
from snowmelt.plans.solvers.heun import heun_step

__all__ = ["edm_stochastic"]


def edm_stochastic(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    churn: float = 40.0,
    s_min: float = 0.05,
    s_max: float = 50.0,
    s_noise: float = 1.0,
) -> Plan:
    """Return the plan that raises the noise level before every Heun step.

    Two ends differ from the paper's loop. The first state is drawn by the caller and is not raised: that
    would only draw it elsewhere. And no level is raised above t = 1, where the network knows nothing.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        churn: S_churn >= 0, the raise of all steps together; 0 is `heun`.
        s_min, s_max: the levels sigma/alpha between which the noise is raised, 0 <= s_min <= s_max.
        s_noise: standard deviation of the fresh noise, > 0; a little above 1 (the paper takes 1.003 to 1.007)
            makes up for denoisers that remove too much.

    >>> from snowmelt.core import VE
    >>> edm_stochastic(VE(), [1.0, 0.8, 0.5, 0.0])
    <Plan edm_stochastic: 5 evaluations, t = 1 -> 0, stochastic, on x0>
    """
    if not 0.0 <= churn < math.inf:
        raise ValueError(f"churn must be finite and at least 0 (which is heun), got {churn}")
    if not 0.0 <= s_min <= s_max:
        raise ValueError(f"0 <= s_min <= s_max is needed, got {s_min} and {s_max}")
    if not 0.0 < s_noise < math.inf:
        raise ValueError(f"s_noise must be positive and finite (1 keeps the variance), got {s_noise}")
    # Line 4: gamma = min(S_churn / N, sqrt(2) - 1) within [S_tmin, S_tmax]
    gamma = min(churn / (len(times) - 1), math.sqrt(2) - 1)

    s, *rest = levels = [schedule(t) for t in times]
    rows: list[Row] = []
    for t in rest:
        inside = t is not levels[-1] and s_min * t.alpha <= t.sigma <= s_max * t.alpha
        up = _higher(schedule, t, gamma) if inside else t
        *first, last = heun_step(s, t)
        rows += [*first, last._replace(advance=_raise(last.advance, t, up, s_noise))]
        s = up
    return Plan(tuple(rows), s, order=2, name="edm_stochastic")


def _higher(schedule: NoiseSchedule, level: Level[float], gamma: float) -> Level[float]:
    """Return the level at (1 + gamma) times the noise, at most that of t = 1."""
    if gamma == 0:
        return level
    return schedule(schedule.t_of_lam(max(level.lam - math.log1p(gamma), schedule(1.0).lam)))


def _raise(combination: Combination, t: Level[float], up: Level[float], s_noise: float) -> Combination:
    """Return a combination that arrives at t, made to arrive at `up` with noise added on the way."""
    # Line 6: x_up = x_t + sqrt(n_up^2 - n_t^2) S_noise z, in the frame x / alpha
    gain = up.alpha / t.alpha
    missing = max(0.0, up.sigma**2 - (gain * t.sigma) ** 2)
    return out_of_frame(combination, to=gain)._replace(z=s_noise * math.sqrt(missing))
