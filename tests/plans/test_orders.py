"""Every method converges as fast as its plan claims.

The data are Gaussians, whose probability flow and marginals are known in closed form. So the loop runs on
coefficients (`coefficients.py`), and neither sampling nor a reference solution adds an error.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans import Plan

from .cases import CASES, KINDS, Case
from .coefficients import last_weights, normal, variance

NOISY, CLEAN = -2.0, 2.0  # lam at both ends of a stretch on which everything is smooth
# Three problems at once: a method whose leading error vanishes on one of them errs on the others
MEAN = torch.tensor([[0.7], [0.7], [1.0]], dtype=torch.float64)
STD = torch.tensor([[0.3], [0.5], [1.5]], dtype=torch.float64)


@cache
def times(schedule: NoiseSchedule, steps: int, first: float = NOISY, last: float = CLEAN) -> list[float]:
    """Return times whose lam runs smoothly from `first` to `last`, slowly at first.

    A multistep method begins with steps of lower order. With first steps of size 1/n^2 their error is small.
    """
    lam = first + (last - first) * (np.arange(steps + 1) / steps) ** 2
    return [schedule.t_of_lam(float(value)) for value in lam]


def spread(level: Level[float]) -> torch.Tensor:
    return (level.alpha**2 * STD**2 + level.sigma**2).sqrt()


def error(plan: Plan) -> float:
    """Return how far the plan ends from the flow or, if it is stochastic, from the marginal's variance."""
    start, end = plan.levels[0], plan.end
    weights = last_weights(plan, normal(MEAN, STD), start.alpha * MEAN, spread(start))
    if plan.stochastic:
        return (variance(weights) - spread(end)[:, 0] ** 2).abs().mean().item()
    # x_t = alpha_t mu + std_t / std_s (x_s - alpha_s mu)
    truth = torch.cat([end.alpha * MEAN, spread(end)], dim=1)
    return (weights - truth).abs().mean().item()


def slope(case: Case, schedule: NoiseSchedule, first: float = NOISY, last: float = CLEAN) -> float:
    """Return the measured order: the power of 1/n with which the error falls from n to 2n steps."""
    steps = 120 if str(case) in SHOWS_LATE else 60
    coarse, fine = (error(case.plan(schedule, times(schedule, n, first, last))) for n in (steps, 2 * steps))
    return math.log2(coarse / fine)


SHOWS_LATE = {
    "edm_stochastic",  # below 100 steps gamma is at its upper bound, whatever the step
    "dpmpp_sde-eta=0.7-r=0.3",
    "sa_solver-tau=0.0",
}
DETERMINISTIC = [case for case in CASES if not case.stochastic]


@pytest.mark.parametrize("case", [case for case in DETERMINISTIC if case.order <= 4], ids=str)
def test_a_deterministic_method_converges_at_the_order_that_it_claims(case):
    schedule = KINDS["vp-cosine"]
    assert case.plan(schedule, [0.8, 0.5, 0.3]).order == case.order
    assert slope(case, schedule) == pytest.approx(case.order, abs=0.2)


@pytest.mark.parametrize("case", [case for case in DETERMINISTIC if case.order > 4], ids=str)
def test_of_the_highest_orders_the_error_falls_at_least_as_fast(case):
    schedule = KINDS["vp-cosine"]
    assert case.plan(schedule, [0.8, 0.5, 0.3]).order == case.order
    assert slope(case, schedule) > case.order - 0.2


# On other schedules all other methods do the same: `test_laws.py` compares them at equal sigma/alpha
IN_T = [case for case in DETERMINISTIC if case.in_t and case.runs_on(KINDS["flow"])]


@pytest.mark.parametrize("case", IN_T, ids=str)
def test_polynomials_in_t_keep_their_order_on_another_schedule(case):
    assert slope(case, KINDS["flow"]) == pytest.approx(case.order, abs=0.2)


UPWARDS = {
    case.solver: case
    for case in DETERMINISTIC
    if case.order in (2, 3) and not case.options.get("lower_order_final")
}


@pytest.mark.parametrize("case", UPWARDS.values(), ids=str)
def test_towards_noise_a_method_has_the_same_order(case):
    assert slope(case, KINDS["vp-cosine"], CLEAN, NOISY) == pytest.approx(case.order, abs=0.2)


# Several outputs with noise: any nonlinearity leaves order 1, which the plan claims; a Gaussian has none
BETTER_ON_A_GAUSSIAN = {"sa_solver", "adams"}
STOCHASTIC = [case for case in CASES if case.stochastic]


@pytest.mark.parametrize("case", STOCHASTIC, ids=str)
def test_a_stochastic_method_converges_in_variance_at_the_order_that_it_claims(case):
    schedule = KINDS["vp-cosine"]
    assert case.plan(schedule, [0.6, 0.5, 0.4, 0.1]).order == case.order
    measured = slope(case, schedule)
    if case.solver in BETTER_ON_A_GAUSSIAN and case.options.get("order") != 1:
        assert measured > 1.8
    else:
        assert measured == pytest.approx(case.order, abs=0.2)
