"""SA-Solver: stochastic Adams (Xue et al. 2023, https://arxiv.org/abs/2309.05019).

Adams' predictor-corrector on x0 for the family of reverse SDEs that share their marginals, in which tau(t)
says how much noise is exchanged: 0 is the ODE, 1 the usual reverse SDE. Where two outputs are interpolated,
the authors take M_1 = alpha_t (1 + tau^2) h / 2 in place of its integral, for few steps; the order stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import claimed_order, multistep_rows, multistep_step
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

    def tau_at(s: Level[float]) -> float:
        return tau if low <= s.t <= high else 0.0

    def step(s: Level[float], t: Level[float], nodes: Sequence[float]) -> Combination:
        return multistep_step(s, t, nodes, tau_at(s), slope="bh1")

    rows = multistep_rows(levels, step, predictor_order, corrector_order, lower_order_final)
    claim = claimed_order(predictor_order, corrector_order, lower_order_final)
    return Plan(rows, levels[-1], order=1 if any(map(tau_at, levels)) else claim, name="sa_solver")


def _check(predictor_order: int, corrector_order: int, tau: float, interval: Sequence[float]) -> None:
    if predictor_order not in (1, 2, 3, 4):
        raise ValueError(f"predictor_order of SA-Solver must be 1, 2, 3 or 4, got {predictor_order}")
    if corrector_order not in (0, 1, 2, 3, 4):
        raise ValueError(f"corrector_order of SA-Solver must be 1 to 4, or 0 for none, got {corrector_order}")
    if not tau >= 0:
        raise ValueError(f"tau must be >= 0 (0 is the ODE, 1 the reverse SDE), got {tau}")
    if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
        raise ValueError(f"interval must be two times 0 <= low <= high <= 1, got {tuple(interval)}")
