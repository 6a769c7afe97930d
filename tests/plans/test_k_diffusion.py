"""Equality with k-diffusion, for every case of the table that names a function of it.

The peer knows x / alpha and sigma / alpha alone. Of a schedule, this tests that the table leaves that frame
(`out_of_frame`): one schedule with alpha = 1, one that preserves the variance, and one that does neither.
"""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from snowmelt.core import Level
from snowmelt.plans import SOLVERS

from .cases import CASES, KINDS
from .peers import oracle, path_through, run, sigma_hat, start

SCHEDULES = {kind: KINDS[kind] for kind in ("ddpm", "ve", "flow")}
TIMES = [0.95, 0.85, 0.75, 0.6, 0.45, 0.3, 0.0]
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
precisions = pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])


def denoised(x_hat, sigma):
    """The oracle as k-diffusion calls a model: on x / alpha, with sigma / alpha for each image."""
    return oracle(x_hat.dtype)(x_hat, Level(math.nan, 1.0, float(sigma.flatten()[0])))


def sigmas_of(levels, dtype):
    return torch.tensor([sigma_hat(level) for level in levels], dtype=dtype)


@schedules
@pytest.mark.parametrize("case", [case for case in CASES if case.peer], ids=str)
def test_equals_k_diffusion(case, schedule, k_diffusion):
    sampler = getattr(k_diffusion, case.peer.sampler)
    takes_noise = "noise_sampler" in inspect.signature(sampler).parameters
    for steps, dtype, rtol in (
        *((steps, torch.float64, 1e-9) for steps in (1, 2, 3, 6)),
        (6, torch.float32, 1e-4),
    ):
        # The step into the image by itself is not possible for the peer's multistep samplers
        levels = [schedule(t) for t in (TIMES[-steps - 1 :] if steps > 1 else TIMES[:2])]
        x = start(levels[0], dtype)
        draws = torch.randn(2 * steps, 4, 6, dtype=dtype)
        source = iter(draws)
        noise = {"noise_sampler": lambda *_, source=source: next(source)} if takes_noise else {}
        peer = sampler(
            denoised,
            x / levels[0].alpha,
            sigmas_of(levels, dtype),
            disable=True,
            **noise,
            **case.peer.options,
        )
        result = run(case.plan(schedule, [level.t for level in levels]), x, draws)
        torch.testing.assert_close(result, levels[-1].alpha * peer, rtol=rtol, atol=rtol)


@schedules
@precisions
@pytest.mark.parametrize("options", [{}, {"eta": 0.5}, {"r": 0.3}])
def test_dpmpp_sde_on_a_brownian_path_equals_k_diffusion(dtype, rtol, options, schedule, k_diffusion):
    plan = SOLVERS["dpmpp_sde"](schedule, TIMES, **options)
    x = start(plan.levels[0], dtype)
    draws = torch.randn(plan.nfe, 4, 6, dtype=dtype)
    peer = k_diffusion.sample_dpmpp_sde(
        denoised,
        x / plan.levels[0].alpha,
        sigmas_of([schedule(t) for t in TIMES], dtype),
        disable=True,
        noise_sampler=path_through(plan, draws),
        **options,
    )
    torch.testing.assert_close(run(plan, x, draws), peer, rtol=rtol, atol=rtol)


@schedules
@precisions
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

    plan = SOLVERS["edm_stochastic"](schedule, TIMES, churn=churn, s_min=low, s_max=high, s_noise=s_noise)
    used = [draw for draw, sigma in zip(draws, sigmas[:-1], strict=True) if low <= sigma <= high]
    torch.testing.assert_close(run(plan, x, used), peer, rtol=rtol, atol=rtol)
