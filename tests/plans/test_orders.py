"""Every solver converges as fast as it claims, on every kind of schedule.

Deterministic plans run on a mixture of Gaussians, whose probability flow an adaptive integrator solves to
twelve digits. Stochastic plans run on one Gaussian: there every state is a linear combination of the noises
drawn, so the loop itself, fed with coefficients in place of numbers, gives mean and variance without any
sampling error.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import count

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from snowmelt.core import VE, CosineVP, Level, LinearVP, NoiseSchedule, RectifiedFlow
from snowmelt.denoisers import GaussianMixture
from snowmelt.plans import SOLVERS, Plan, integrate

SCHEDULES = {"vp-linear": LinearVP(), "vp-cosine": CosineVP(), "ve": VE(), "flow": RectifiedFlow()}
NOISY, CLEAN = -2.0, 2.0  # lam at both ends of a stretch on which everything is smooth


@cache
def times(schedule: NoiseSchedule, steps: int) -> list[float]:
    """Return times whose lam rises smoothly, slowly at first.

    A multistep method begins with steps of lower order; with first steps of size 1/n^2 their error, too, is
    below what it is judged by.
    """
    lam = NOISY + (CLEAN - NOISY) * (np.arange(steps + 1) / steps) ** 2
    return [schedule.t_of_lam(float(value)) for value in lam]


def level(schedule: NoiseSchedule, lam: float) -> Level[float]:
    return schedule(schedule.t_of_lam(lam))


# -- deterministic -------------------------------------------------------------------------------------

MIXTURE = GaussianMixture(torch.tensor([[-1.0], [0.3], [0.8]], dtype=torch.float64), std=0.4)
STARTS = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)[:, None]


def exact_flow(schedule: NoiseSchedule) -> torch.Tensor:
    """Return where the probability flow takes STARTS: d(x/alpha)/dlam = D - x/alpha."""
    start, end = level(schedule, NOISY), level(schedule, CLEAN)

    def slope(lam: float, x_hat: np.ndarray) -> np.ndarray:
        at = level(schedule, lam)
        x_t = torch.from_numpy(at.alpha * x_hat)[:, None]
        return MIXTURE(x_t, at)[:, 0].numpy() - x_hat

    x_hat = STARTS[:, 0].numpy() * math.hypot(start.alpha, start.sigma) / start.alpha
    solution = solve_ivp(slope, (NOISY, CLEAN), x_hat, "DOP853", rtol=1e-12, atol=1e-13)
    return end.alpha * torch.from_numpy(solution.y[:, -1:])


@pytest.fixture(scope="module", params=SCHEDULES)
def flow(request: pytest.FixtureRequest) -> tuple[NoiseSchedule, torch.Tensor]:
    schedule = SCHEDULES[request.param]
    return schedule, exact_flow(schedule)


def deterministic() -> list[str]:
    schedule = LinearVP()
    return [name for name, make in SOLVERS.items() if not make(schedule, times(schedule, 8)).stochastic]


@pytest.mark.parametrize("solver", deterministic())
def test_deterministic_plans_converge_at_the_order_that_they_claim(solver, flow):
    schedule, truth = flow
    errors = []
    for steps in (120, 240):
        plan = SOLVERS[solver](schedule, times(schedule, steps))
        errors.append((integrate(plan, MIXTURE, plan.prior_std * STARTS) - truth).abs().mean().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(plan.order, abs=0.2), f"errors {errors}"


# -- stochastic ----------------------------------------------------------------------------------------

MEAN, STD = 0.7, 0.5


def gaussian(x_t: torch.Tensor, at: Level[float], class_labels: object = None) -> torch.Tensor:
    """The exact denoiser of N(MEAN, STD^2) on coefficients: first the constant's, then the noises'."""
    gain = at.alpha * STD**2 / (at.alpha**2 * STD**2 + at.sigma**2)
    constant = torch.zeros_like(x_t)
    constant[:, 0] = MEAN
    return constant + gain * (x_t - at.alpha * constant)


def moments(plan: Plan) -> tuple[float, float]:
    """Return mean and variance of what `plan` makes of a state with the right ones."""
    start = plan.levels[0]
    columns = 2 + plan.nfe
    x = torch.zeros(1, columns, dtype=torch.float64)
    x[0, 0] = start.alpha * MEAN
    x[0, 1] = math.sqrt(start.alpha**2 * STD**2 + start.sigma**2)
    free = count(2)

    def noise() -> torch.Tensor:
        fresh = torch.zeros_like(x)
        fresh[0, next(free)] = 1.0
        return fresh

    with torch.no_grad():
        mean, *weights = integrate(plan, gaussian, x, noise=noise)[0].tolist()
    return mean, sum(weight**2 for weight in weights)


def errors(solver: str, schedule: NoiseSchedule, steps: int) -> tuple[float, float, int]:
    plan = SOLVERS[solver](schedule, times(schedule, steps))
    mean, variance = moments(plan)
    end = plan.levels[-1]
    return (
        abs(mean - end.alpha * MEAN),
        abs(variance - (end.alpha**2 * STD**2 + end.sigma**2)),
        plan.order,
    )


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("solver", sorted(SOLVERS.keys() - set(deterministic())))
def test_stochastic_plans_have_the_weak_order_that_they_claim(solver, schedule):
    coarse, fine = errors(solver, schedule, 200), errors(solver, schedule, 400)
    claimed = fine[2]
    for name, big, small in zip(("mean", "variance"), coarse, fine, strict=False):
        if small > 1e-11:  # else there is no error left to fall
            assert math.log2(big / small) >= claimed - 0.2, f"{name}: {big:.2e} -> {small:.2e}"


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_moments_of_a_gaussian_are_right_in_the_limit(solver):
    """Not only does the error fall: it falls to nothing."""
    for schedule in SCHEDULES.values():
        mean, variance, order = errors(solver, schedule, 400)
        assert max(mean, variance) < (3e-2 if order == 1 else 3e-3)
