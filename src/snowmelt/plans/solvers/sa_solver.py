"""SA-Solver: stochastic Adams (Xue et al. 2023, https://arxiv.org/abs/2309.05019).

Adams' predictor-corrector for the family of reverse SDEs that share their marginals, in which tau(t) says
how much noise is exchanged: 0 is the ODE, 1 the usual reverse SDE. Where two outputs are interpolated, the
slope's weight is h^2/2 in place of its exact integral, as the authors have it for few steps; the order stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import first_order_step, multistep_step, predictor_corrector, ratio, step_order
from snowmelt.plans.plan import Combination, Plan

__all__ = ["sa_solver"]


def sa_solver(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    predictor_order: int = 2,
    corrector_order: int = 2,
    tau: float = 1.0,
    interval: Sequence[float] = (0.2, 0.8),
    lower_order_final: bool = True,
) -> Plan:
    """Return SA-Solver's plan on `times`, for outputs x0.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        predictor_order: outputs that a prediction interpolates, 1 to 4.
        corrector_order: outputs that a correction interpolates, the newest included, 1 to 4; 0: none.
        tau: stochasticity inside `interval`, >= 0; it is 0 outside.
        interval: (low, high), times in [0, 1] of the states from which a step is stochastic.
        lower_order_final: let the order fall to 1 over the last steps.

    >>> from snowmelt.core import RectifiedFlow
    >>> sa_solver(RectifiedFlow(), [1.0, 0.7, 0.4, 0.0])
    <Plan sa_solver: 3 evaluations, t = 1 -> 0, stochastic, on x0>
    """
    _check(predictor_order, corrector_order, tau, interval)
    low, high = interval
    levels = [schedule(t) for t in times]
    taus = [tau if low <= level.t <= high else 0.0 for level in levels]

    def predict(i: int) -> Combination:
        s, t = levels[i : i + 2]
        k = step_order(levels, i, predictor_order, lower_order_final)
        if k == 1:
            return first_order_step(s, t, ratio(s, t) ** (taus[i] ** 2))
        return _step(s, t, levels[i - k + 1 : i + 1][::-1], taus[i])

    def correct(i: int) -> Combination | None:
        s, t = levels[i : i + 2]
        if math.isinf(s.lam) or math.isinf(t.lam):
            return None
        # the newest output, and as many older ones as a prediction could have
        k = 1 + step_order(levels, i, corrector_order - 1, lower_order_final)
        return _step(s, t, levels[i + 2 - k : i + 2][::-1], taus[i])

    rows = predictor_corrector(levels, predict, correct if corrector_order else None)
    claim = max(predictor_order, min(corrector_order, predictor_order + 1))
    claim = min(claim, 2) if lower_order_final else claim  # the last step is of order 1
    return Plan(rows, levels[-1], order=1 if any(taus) else claim, name="sa_solver")


def _step(s: Level[float], t: Level[float], nodes: Sequence[Level[float]], tau: float) -> Combination:
    """Return the step of the predictor (or of the corrector) that interpolates the outputs at `nodes`."""
    step = multistep_step(s, t, [level.lam for level in nodes], tau)
    if len(nodes) != 2:
        return step
    h, rate = t.lam - s.lam, 1 + tau**2
    slope = t.alpha * rate * h**2 / 2 / (nodes[0].lam - nodes[1].lam)
    total = -t.alpha * math.expm1(-rate * h)
    return step._replace(m=(slope, total - slope) if nodes[1] is s else (total + slope, -slope))


def _check(predictor_order: int, corrector_order: int, tau: float, interval: Sequence[float]) -> None:
    if predictor_order not in (1, 2, 3, 4):
        raise ValueError(f"predictor_order of SA-Solver must be 1, 2, 3 or 4, got {predictor_order}")
    if corrector_order not in (0, 1, 2, 3, 4):
        raise ValueError(f"corrector_order of SA-Solver must be 1 to 4, or 0 for none, got {corrector_order}")
    if not tau >= 0:
        raise ValueError(f"tau must be >= 0 (0 is the ODE, 1 the reverse SDE), got {tau}")
    if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
        raise ValueError(f"interval must be two times 0 <= low <= high <= 1, got {tuple(interval)}")
