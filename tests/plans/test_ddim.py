"""DDPM and DDIM: beside the closed form of the posterior, and beside diffusers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from snowmelt.core import DiscreteSchedule, Level, make_betas
from snowmelt.plans import SOLVERS, ddim, ddpm, integrate, make_plan

from .cases import KINDS
from .peers import network, of_network

DDPM = DiscreteSchedule(make_betas())
TIMES = [1.0, 0.93, 0.5, 0.2, 0.013, 0.0]


# -- closed forms --------------------------------------------------------------------------------------


def posterior(s: Level[float], t: Level[float]) -> tuple[float, float, float]:
    """Weights of x0 and x_s in the mean of q(x_t | x_s, x0), and its variance, by completing the square.

    x_t ~ N(alpha_t x0, sigma_t^2) is the prior, x_s | x_t ~ N(a x_t, v) the likelihood.
    """
    a = s.alpha / t.alpha
    v = s.sigma**2 - a**2 * t.sigma**2
    if t.sigma == 0:
        return t.alpha, 0.0, 0.0
    precision = 1 / t.sigma**2 + a**2 / v
    return t.alpha / t.sigma**2 / precision, a / v / precision, 1 / precision


def test_ddpm_is_the_posterior(schedule):
    plan = ddpm(schedule, TIMES)
    for row, (s, t) in zip(plan.rows, pairwise(map(schedule, TIMES)), strict=True):
        of_x0, of_x, variance = posterior(s, t)
        assert row.advance.m[0] == pytest.approx(of_x0, rel=1e-9)
        assert row.advance.y == pytest.approx(of_x, rel=1e-9, abs=1e-15)
        assert row.advance.z**2 == pytest.approx(variance, rel=1e-9, abs=1e-15)


FULL_NOISE = {
    "ddim": {"eta": 1.0},
    "euler_ancestral": {},
    "adams": {"order": 1, "tau": 1.0},
    "sa_solver": {"predictor_order": 1, "corrector_order": 0, "interval": (0, 1)},
}


@pytest.mark.parametrize("solver", FULL_NOISE)
def test_first_order_with_full_noise_is_ddpm(solver):
    """Also over steps so long that 1 - e^{-2h} is 1 in float64."""
    for kind, schedule in KINDS.items():
        for times in (TIMES, [1.0, 1e-4, 0.0]):
            plan = SOLVERS[solver](schedule, times, **FULL_NOISE[solver])
            for one, other in zip(plan.rows, ddpm(schedule, times).rows, strict=True):
                assert one.level == other.level
                numbers = [(c.x, c.y, *c.m, c.z) for c in (one.advance, other.advance)]
                np.testing.assert_allclose(*numbers, rtol=1e-12, err_msg=kind)


def test_the_share_of_fresh_noise_is_etas():
    """DDIM eq. 16: sigma = eta sqrt(sigma_t^2 / sigma_s^2) sqrt(1 - alpha_s^2 / alpha_t^2), in our names."""
    for s, t in pairwise(map(DDPM, TIMES[:-1])):
        (row,) = ddim(DDPM, [s.t, t.t], eta=0.3).rows
        expected = 0.3 * t.sigma / s.sigma * (1 - s.alpha**2 / t.alpha**2) ** 0.5
        assert row.advance.z == pytest.approx(expected, rel=1e-9)


# -- diffusers -----------------------------------------------------------------------------------------


OURS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def ours(plan, schedule, prediction, x, draws):
    return integrate(plan, of_network(schedule, OURS[prediction]), x, noise=iter(draws).__next__)


def peer(scheduler_class, schedule, steps, **options):
    """A diffusers scheduler on our betas (its own are float32) and `steps` steps."""
    scheduler = scheduler_class(schedule.num_timesteps, clip_sample=False, **options)
    index = torch.arange(schedule.num_timesteps, dtype=torch.float64)
    scheduler.betas = schedule.betas
    scheduler.alphas = 1 - schedule.betas
    scheduler.alphas_cumprod = schedule(schedule.t_of_index(index)).alpha ** 2
    scheduler.one = scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(steps)
    return scheduler


predictions = pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])


# `linspace` is left out: there diffusers steps to k - T // n, which is not the next point of its own grid
@predictions
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_equals_diffusers(prediction, spacing, eta):
    for steps, dtype, rtol in (
        (1, torch.float64, 1e-9),
        (20, torch.float64, 1e-9),
        (20, torch.float32, 1e-5),
    ):
        scheduler = peer(DDIMScheduler, DDPM, steps, prediction_type=prediction, timestep_spacing=spacing)
        x = torch.randn(2, 1, 4, 4, dtype=dtype)
        draws = torch.randn(steps, 2, 1, 4, 4, dtype=dtype)
        state = x
        for i, k in enumerate(scheduler.timesteps):
            step = scheduler.step(network(state, k), k, state, eta=eta, variance_noise=draws[i])
            state = step.prev_sample
        plan = make_plan(DDPM, "ddim", steps, spacing, eta=eta)
        result = ours(plan, DDPM, prediction, x, draws)
        torch.testing.assert_close(result, state.to(dtype), rtol=rtol, atol=rtol)


@predictions
@pytest.mark.parametrize("steps", [10, 40])
def test_ddpm_equals_diffusers(prediction, steps, monkeypatch):
    """Also at every trained index, as it was published."""
    schedule = DiscreteSchedule(make_betas("linear", 40, 1e-3, 0.3))
    for dtype, rtol in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        scheduler = peer(
            DDPMScheduler, schedule, steps, prediction_type=prediction, timestep_spacing="trailing"
        )
        x = torch.randn(2, 1, 4, 4, dtype=dtype)
        draws = torch.randn(steps, 2, 1, 4, 4, dtype=dtype)
        source = iter(draws)
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, source=source, **__: next(source)
        )
        state = x
        for k in scheduler.timesteps:
            state = scheduler.step(network(state, k), int(k), state).prev_sample
        result = ours(make_plan(schedule, "ddpm", steps), schedule, prediction, x, draws)
        torch.testing.assert_close(result, state.to(dtype), rtol=rtol, atol=rtol)
