"""Euler, Heun, multistep and midpoint methods in the noise level: beside two peers, and their laws."""

from __future__ import annotations

import math
from functools import cache, partial
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from diffusers import (
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
)

from snowmelt.core import VE, CosineVP, DiscreteSchedule, Level, LinearVP, RectifiedFlow, make_betas
from snowmelt.denoisers import GaussianMixture
from snowmelt.plans import SOLVERS as NAMED
from snowmelt.plans import integrate
from snowmelt.plans.solvers.dpm2 import dpm2
from snowmelt.plans.solvers.edm_stochastic import edm_stochastic
from snowmelt.plans.solvers.heun import heun
from snowmelt.plans.solvers.lms import lms

euler, euler_ancestral, dpm2_ancestral = (
    NAMED[name] for name in ("euler", "euler_ancestral", "dpm2_ancestral")
)
SOLVERS = {
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
    "heun-u": partial(heun, coordinate="u"),
    "edm_stochastic": edm_stochastic,
    **{f"lms-{order}": partial(lms, order=order) for order in (1, 2, 3, 4)},
    "dpm2": dpm2,
    "dpm2_ancestral": dpm2_ancestral,
}
TIMES = [0.95, 0.85, 0.75, 0.6, 0.45, 0.3, 0.0]


def oracle(dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    means = torch.randn(3, 6, dtype=torch.float64, generator=generator)
    return GaussianMixture(means.to(dtype), 0.4)


def denoised(x_hat, sigma):
    """The oracle as k-diffusion calls a model: on x / alpha, with sigma / alpha for each image."""
    return oracle(x_hat.dtype)(x_hat, Level(math.nan, 1.0, float(sigma.flatten()[0])))


def sigmas_of(levels, dtype):
    return torch.tensor([level.sigma / level.alpha for level in levels], dtype=dtype)


def start(level, dtype):
    return math.hypot(level.alpha, level.sigma) * torch.randn(4, 6, dtype=dtype)


# -- k-diffusion ---------------------------------------------------------------------------------------

PEERS = {
    "euler": (euler, "sample_euler", {}),
    "euler_ancestral": (euler_ancestral, "sample_euler_ancestral", {}),
    "euler_ancestral-eta": (partial(euler_ancestral, eta=0.6), "sample_euler_ancestral", {"eta": 0.6}),
    "heun": (heun, "sample_heun", {}),
    **{f"lms-{order}": (partial(lms, order=order), "sample_lms", {"order": order}) for order in (1, 2, 3, 4)},
    "dpm2": (dpm2, "sample_dpm_2", {}),
    "dpm2_ancestral": (dpm2_ancestral, "sample_dpm_2_ancestral", {}),
    "dpm2_ancestral-eta": (partial(dpm2_ancestral, eta=0.6), "sample_dpm_2_ancestral", {"eta": 0.6}),
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(
    ("dtype", "rtol", "steps"),
    [(torch.float32, 1e-4, 6), *((torch.float64, 1e-9, steps) for steps in (1, 2, 3, 6))],
)
def test_equals_k_diffusion(name, dtype, rtol, steps, schedule, k_diffusion):
    solver, sampler, options = PEERS[name]
    levels = [schedule(t) for t in TIMES[-steps - 1 :]]
    x = start(levels[0], dtype)
    draws = torch.randn(steps, 4, 6, dtype=dtype)
    if sampler.endswith("ancestral"):
        source = iter(draws)
        options = {**options, "noise_sampler": lambda *_: next(source)}
    sigmas = sigmas_of(levels, dtype)
    peer = getattr(k_diffusion, sampler)(denoised, x / levels[0].alpha, sigmas, disable=True, **options)
    plan = solver(schedule, [level.t for level in levels])
    result = integrate(plan, oracle(dtype), x, noise=iter(draws).__next__)
    torch.testing.assert_close(result, levels[-1].alpha * peer, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("churn", [0.6, 40.0])
def test_edm_stochastic_equals_k_diffusion(dtype, rtol, churn, schedule, k_diffusion, monkeypatch):
    levels = [schedule(t) for t in TIMES]
    sigmas = sigmas_of(levels, dtype)
    x = start(levels[0], dtype)
    # The peer draws at the start of every step, used or not; we at the end of the step before, where used.
    # With s_max below the first level neither raises the first state
    low, high, s_noise = 0.05, 0.9 * float(sigmas[0]), 1.007
    draws = torch.randn(6, 4, 6, dtype=dtype)
    source = iter(draws)
    monkeypatch.setattr(torch, "randn_like", lambda _: next(source))
    options = {"s_churn": churn, "s_tmin": low, "s_tmax": high, "s_noise": s_noise}
    peer = k_diffusion.sample_heun(denoised, x / levels[0].alpha, sigmas, disable=True, **options)

    plan = edm_stochastic(schedule, TIMES, churn=churn, s_min=low, s_max=high, s_noise=s_noise)
    used = (draw for draw, sigma in zip(draws, sigmas[:-1], strict=True) if low <= sigma <= high)
    result = integrate(plan, oracle(dtype), x, noise=used.__next__)
    torch.testing.assert_close(result, peer, rtol=rtol, atol=rtol)


# -- diffusers -----------------------------------------------------------------------------------------

DIFFUSERS = {
    "euler": (euler, EulerDiscreteScheduler),
    "euler_ancestral": (euler_ancestral, EulerAncestralDiscreteScheduler),
    "edm": (euler, EDMEulerScheduler),
    "flow": (euler, FlowMatchEulerDiscreteScheduler),
    "heun": (heun, HeunDiscreteScheduler),
    "heun-u": (partial(heun, coordinate="u"), FlowMatchHeunDiscreteScheduler),
    "lms": (lms, LMSDiscreteScheduler),
}
IN_FLOAT64 = {"heun", "lms"}  # the others round their state to float32


@pytest.mark.parametrize("name", DIFFUSERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 6])
@pytest.mark.filterwarnings("ignore:The `scale_model_input` function")
def test_equals_diffusers(name, steps, schedule, monkeypatch):
    solver, scheduler_class = DIFFUSERS[name]
    dtype, rtol = (torch.float64, 1e-9) if name in IN_FLOAT64 else (torch.float32, 1e-4)
    levels = [schedule(t) for t in TIMES[-steps - 1 :]]
    plan = solver(schedule, [level.t for level in levels])
    flow = "Flow" in scheduler_class.__name__
    scales = [level.alpha + level.sigma * flow for level in plan.levels]
    x = start(levels[0], dtype)
    draws = torch.randn(steps, 4, 6, dtype=dtype)
    source = iter(draws)
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor", lambda *_, **__: next(source)
    )

    peer = scheduler_class()
    peer.set_timesteps(steps)
    peer.sigmas = torch.tensor([lv.sigma / c for lv, c in zip(plan.levels, scales, strict=True)], dtype=dtype)
    peer.set_begin_index(0)
    peer.is_scale_input_called = True
    state = x / scales[0]
    for k, level, scale in zip(peer.timesteps, plan.levels, scales, strict=False):
        x0 = oracle(dtype)(scale * state, level)
        # eps in the frame of alpha, the velocity eps - x0 in that of alpha + sigma
        output = (state - x0) / (level.sigma / scale)
        given = {"pred_original_sample": x0} if name == "edm" else {}
        state = peer.step(output, k, state, **given).prev_sample
    result = integrate(plan, oracle(dtype), x, noise=iter(draws).__next__)
    torch.testing.assert_close(result, scales[-1] * state, rtol=rtol, atol=rtol)


# -- exactness -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_a_constant_image_is_reached_from_any_start_to_the_clean_end(name, steps, schedule):
    plan = SOLVERS[name](schedule, [1.0, *TIMES[-steps:]])
    numbers = [(c.x, c.y, *c.m, c.z) for row in plan.rows for c in (row.correct, row.advance)]
    assert all(map(math.isfinite, chain(*numbers)))
    x = plan.prior_std * torch.randn(4, 6, dtype=torch.float64)
    result = integrate(plan, lambda x_t, level, _: torch.full_like(x_t, 0.37), x)
    torch.testing.assert_close(result, torch.full_like(x, 0.37), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_constant_image_keeps_its_noise_at_every_level(name, schedule):
    """If the image is known, every state at rest is alpha x0 + a noise of standard deviation sigma."""
    for end in (0.8, 0.4):
        plan = SOLVERS[name](schedule, [1.0, 0.9, 0.8, 0.6, 0.4][: 5 if end == 0.4 else 3])
        # The image's part: start from alpha x0; the noise's: start from sigma eps, and add up variances
        first = plan.levels[0]
        mean, variance = moments(plan, lambda level: (0.0, 1.0), (first.alpha, first.sigma**2))
        assert mean == pytest.approx(plan.end.alpha, rel=1e-7)
        assert variance == pytest.approx(plan.end.sigma**2, rel=1e-7)


# -- order of convergence ------------------------------------------------------------------------------


def moments(plan, affine, start):
    """Mean and variance of the last state, exactly, for a denoiser x0 = gain * x_t + offset.

    Every state is a combination of the initial one, the fresh noises and 1; the vectors below hold its
    coefficients: of 1 (the mean), of the unit initial noise, of every fresh noise.
    """
    mean, variance = start
    size = 2 + plan.nfe
    unit = np.eye(size)
    x = y = mean * unit[0] + math.sqrt(variance) * unit[1]
    z, outputs = np.zeros(size), []

    def combine(c, z):
        weighed = zip((c.x, c.y, *c.m, c.z), (x, y, *outputs[: len(c.m)], z), strict=True)
        return sum(weight * vector for weight, vector in weighed)

    for i, row in enumerate(plan.rows):
        gain, offset = affine(row.level)
        x0 = gain * y + offset * unit[0]
        outputs.insert(0, x0 if plan.quantity == "x0" else (y - row.level.alpha * x0) / row.level.sigma)
        x = combine(row.correct, z)
        z = unit[2 + i]
        y = combine(row.advance, z)
    return y[0], (y[1:] ** 2).sum()


INTERIOR = {
    "vp-linear": (LinearVP(), 0.7, 0.3),
    "vp-cosine": (CosineVP(), 0.75, 0.25),
    "ve": (VE(), 0.65, 0.45),
    "flow": (RectifiedFlow(), 0.8, 0.2),
    "flow-from-noise": (RectifiedFlow(), 1.0, 0.2),
}


def slope(errors, factor=2):
    return math.log(errors[-2] / errors[-1], factor)


@pytest.mark.parametrize("problem", [name for name in INTERIOR if name != "flow-from-noise"])
@pytest.mark.parametrize("name", ["euler", "heun", "heun-u", "lms-1", "lms-2", "dpm2"])
def test_deterministic_solvers_converge_at_their_order(name, problem):
    """On a mixture, against Heun's method extrapolated."""
    schedule, first, last = INTERIOR[problem]
    x, truth = solution(problem)
    errors = [
        (run(SOLVERS[name], schedule, np.linspace(first, last, n + 1), x) - truth).norm() for n in (64, 128)
    ]
    order = SOLVERS[name](schedule, [first, last]).order
    assert slope(errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("order", [3, 4])
def test_lms_has_its_full_order_after_a_fine_start(order):
    """The first steps double from h / n up to h: Euler's is then no worse than all others together."""
    schedule, first, last = INTERIOR["flow"]
    x, truth = solution("flow")
    errors = []
    for n in (96, 192):
        h = (first - last) / n
        ramp = first - h * 2.0 ** -np.arange(math.ceil(math.log2(n)), 0, -1)
        times = np.array([first, *ramp, *np.linspace(first - h, last, n)])
        errors.append((run(partial(lms, order=order), schedule, times, x) - truth).norm())
    assert slope(errors) == pytest.approx(order, abs=0.2)


def test_heun_in_u_keeps_its_order_out_of_pure_noise():
    schedule, first, last = INTERIOR["flow-from-noise"]
    x, truth = solution("flow-from-noise")
    errors = [
        (run(SOLVERS["heun-u"], schedule, np.linspace(first, last, n + 1), x) - truth).norm()
        for n in (64, 128)
    ]
    assert slope(errors) == pytest.approx(2, abs=0.2)


@cache
def solution(problem):
    """A start and where the flow takes it, by Richardson's extrapolation of two fine solutions."""
    schedule, first, last = INTERIOR[problem]
    x = start(schedule(first), torch.float64)
    coarse, fine = (run(SOLVERS["heun-u"], schedule, np.linspace(first, last, n + 1), x) for n in (512, 1024))
    return x, (4 * fine - coarse) / 3


def run(solver, schedule, times, x):
    return integrate(solver(schedule, times.tolist()), oracle(), x)


@pytest.mark.parametrize("problem", [name for name in INTERIOR if name != "flow-from-noise"])
@pytest.mark.parametrize("name", ["euler_ancestral", "edm_stochastic", "dpm2_ancestral"])
def test_stochastic_solvers_converge_in_their_moments(name, problem):
    """On one Gaussian, where the moments of every state are known."""
    schedule, first, last = INTERIOR[problem]
    mu, std = 0.8, 0.5

    def gaussian(level):
        gain = level.alpha * std**2 / (level.alpha**2 * std**2 + level.sigma**2)
        return gain, mu - gain * level.alpha * mu

    errors = []
    for n in (128, 256):
        plan = SOLVERS[name](schedule, np.linspace(first, last, n + 1).tolist())
        a, e = plan.levels[0], plan.end
        _, variance = moments(plan, gaussian, (a.alpha * mu, a.alpha**2 * std**2 + a.sigma**2))
        errors.append(abs(variance - (e.alpha**2 * std**2 + e.sigma**2)))
    assert slope(errors) == pytest.approx(plan.order, abs=0.2)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms_integrates_polynomials_of_its_degree(order):
    """Under way, it is exact where eps is a polynomial in sigma of degree order - 1."""
    schedule = VE(rho=1.0)
    sigmas = np.array([9.0, 7.5, 7.0, 4.0, 2.0, 0.0])
    plan = lms(schedule, (sigmas / 80).tolist(), order=order)
    for i, (row, (s, t)) in enumerate(zip(plan.rows, pairwise(sigmas), strict=True)):
        for degree in range(min(i + 1, order)):
            past = [sigma**degree for sigma in sigmas[i::-1]]
            step = sum(weight * eps for weight, eps in zip(row.advance.m, past, strict=False))
            assert step == pytest.approx((t ** (degree + 1) - s ** (degree + 1)) / (degree + 1), rel=1e-9)


# -- both ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 3, 4])
def test_lms_out_of_pure_noise_is_the_same_method(order):
    """On x0, which pure noise asks for, it does what Euler's step and then eps would do."""
    schedule = RectifiedFlow()
    times = [1.0, 0.9, 0.6, 0.5, 0.3, 0.0]
    plan = lms(schedule, times, order=order)
    assert plan.quantity == "x0"
    x = torch.randn(4, 6, dtype=torch.float64)
    later = integrate(euler(schedule, times[:2]), oracle(), x)
    rest = lms(schedule, times[1:], order=order)
    assert rest.quantity == "eps"
    torch.testing.assert_close(integrate(plan, oracle(), x), integrate(rest, oracle(), later))


def test_evaluations_are_counted():
    times = [1.0, 0.6, 0.3, 0.0]
    for schedule, out_of_noise in ((LinearVP(), 2), (RectifiedFlow(), 1)):
        for name in ("heun", "edm_stochastic", "dpm2", "dpm2_ancestral"):
            assert SOLVERS[name](schedule, times).nfe == out_of_noise + 2 + 1
        assert SOLVERS["heun-u"](schedule, times).nfe == 5
        assert euler(schedule, times).nfe == lms(schedule, times).nfe == 3


# -- relatives and options -----------------------------------------------------------------------------


def test_options_at_zero_leave_the_deterministic_method(schedule):
    times = [1.0, 0.7, 0.4, 0.0]
    assert euler_ancestral(schedule, times, eta=0.0) == euler(schedule, times)
    assert dpm2_ancestral(schedule, times, eta=0.0) == dpm2(schedule, times)
    assert edm_stochastic(schedule, times, churn=0.0) == heun(schedule, times)


def test_no_level_is_raised_above_pure_noise_or_at_the_result(schedule):
    plan = edm_stochastic(schedule, [1.0, 0.999, 0.5, 0.4], churn=1e9, s_min=0.0, s_max=1e9)
    assert max(level.t for level in plan.levels) <= 1.0
    assert plan.end == schedule(0.4)
    raised = plan.levels[-3]
    assert raised.sigma / raised.alpha == pytest.approx(
        math.sqrt(2) * schedule(0.5).sigma / schedule(0.5).alpha
    )


@pytest.mark.parametrize(
    ("solver", "options", "message"),
    [
        (euler_ancestral, {"eta": 1.5}, r"eta must lie in \[0, 1\].*got 1.5"),
        (dpm2_ancestral, {"eta": -0.1}, r"eta must lie in \[0, 1\].*got -0.1"),
        (heun, {"coordinate": "lam"}, "coordinate must be one of sigma, u, got 'lam'"),
        (edm_stochastic, {"churn": -1.0}, "churn must be finite and at least 0"),
        (edm_stochastic, {"churn": math.nan}, "churn must be finite"),
        (edm_stochastic, {"s_min": 2.0, "s_max": 1.0}, "0 <= s_min <= s_max is needed, got 2.0 and 1.0"),
        (edm_stochastic, {"s_noise": 0.0}, "s_noise must be positive"),
        (lms, {"order": 0}, "order must be 1, 2, 3 or 4, got 0"),
        (lms, {"order": 5}, "order must be 1, 2, 3 or 4, got 5"),
    ],
)
def test_nonsense_is_refused(solver, options, message):
    with pytest.raises(ValueError, match=message):
        solver(DiscreteSchedule(make_betas()), [1.0, 0.5, 0.0], **options)
