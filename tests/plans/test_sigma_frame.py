"""Euler, Heun, multistep and midpoint methods in the noise level: beside diffusers, and their own laws."""

from __future__ import annotations

import math

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

from snowmelt.core import DiscreteSchedule, RectifiedFlow, make_betas
from snowmelt.plans import SOLVERS

from .cases import KINDS
from .peers import oracle, run, start

TIMES = [0.95, 0.85, 0.75, 0.6, 0.45, 0.3, 0.0]


# -- diffusers -----------------------------------------------------------------------------------------

DIFFUSERS = {
    "euler": ("euler", {}, EulerDiscreteScheduler),
    "euler_ancestral": ("euler_ancestral", {}, EulerAncestralDiscreteScheduler),
    "edm": ("euler", {}, EDMEulerScheduler),
    "flow": ("euler", {}, FlowMatchEulerDiscreteScheduler),
    "heun": ("heun", {}, HeunDiscreteScheduler),
    "heun-u": ("heun", {"coordinate": "u"}, FlowMatchHeunDiscreteScheduler),
    "lms": ("lms", {}, LMSDiscreteScheduler),
}
IN_FLOAT64 = {"heun", "lms"}  # the others round their state to float32


@pytest.mark.parametrize("name", DIFFUSERS)
@pytest.mark.parametrize("kind", ["ddpm", "ve", "flow"])
@pytest.mark.filterwarnings("ignore:The `scale_model_input` function")
def test_equals_diffusers(name, kind, monkeypatch):
    solver, options, scheduler_class = DIFFUSERS[name]
    dtype, rtol = (torch.float64, 1e-9) if name in IN_FLOAT64 else (torch.float32, 1e-4)
    flow = "Flow" in scheduler_class.__name__
    for steps in (1, 2, 3, 6):
        levels = [KINDS[kind](t) for t in TIMES[-steps - 1 :]]
        plan = SOLVERS[solver](KINDS[kind], [level.t for level in levels], **options)
        scales = [level.alpha + level.sigma * flow for level in plan.levels]
        x = start(levels[0], dtype)
        draws = torch.randn(steps, 4, 6, dtype=dtype)
        source = iter(draws)
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor",
            lambda *_, source=source, **__: next(source),
        )

        peer = scheduler_class()
        peer.set_timesteps(steps)
        peer.sigmas = torch.tensor(
            [level.sigma / scale for level, scale in zip(plan.levels, scales, strict=True)], dtype=dtype
        )
        peer.set_begin_index(0)
        peer.is_scale_input_called = True
        state = x / scales[0]
        for k, level, scale in zip(peer.timesteps, plan.levels, scales, strict=False):
            x0 = oracle(dtype)(scale * state, level)
            # eps in the frame of alpha, the velocity eps - x0 in that of alpha + sigma
            output = (state - x0) / (level.sigma / scale)
            given = {"pred_original_sample": x0} if name == "edm" else {}
            state = peer.step(output, k, state, **given).prev_sample
        torch.testing.assert_close(run(plan, x, draws), scales[-1] * state, rtol=rtol, atol=rtol)


# -- lms -----------------------------------------------------------------------------------------------


def test_lms_leaves_out_slopes_that_stand_too_close():
    """Closer than a hundredth of the step, they would add rounding only: for that step the order falls."""
    schedule = RectifiedFlow()
    times = [0.9, 0.8, 0.8 - 1e-9, 0.5, 0.3, 0.1]
    plan = SOLVERS["lms"](schedule, times)
    assert max(abs(weight) for row in plan.rows for weight in row.advance.m) < 20
    x = torch.randn(4, 6, dtype=torch.float64)
    without = SOLVERS["lms"](schedule, [0.9, 0.8, 0.5, 0.3, 0.1])
    torch.testing.assert_close(run(plan, x), run(without, x), rtol=0, atol=0.1)


# -- edm_stochastic ------------------------------------------------------------------------------------


def test_no_level_is_raised_above_pure_noise_or_at_the_result(schedule):
    times = [1.0, 0.999, 0.5, 0.4]
    plan = SOLVERS["edm_stochastic"](schedule, times, churn=1e9, s_min=0.0, s_max=1e9)
    assert max(level.t for level in plan.levels) <= 1.0
    assert plan.end == schedule(0.4)
    raised = plan.levels[-3]
    assert raised.sigma / raised.alpha == pytest.approx(
        math.sqrt(2) * schedule(0.5).sigma / schedule(0.5).alpha
    )


def test_the_noise_is_raised_by_its_share_of_churn_inside_the_interval_alone():
    """EDM's algorithm 2, line 4: gamma = S_churn / N where s_min <= sigma/alpha <= s_max."""
    schedule = KINDS["vp-linear"]
    times = [schedule.t_of_lam(-math.log(sigma)) for sigma in (20.0, 10.0, 5.0, 2.0, 1.0, 0.5)]
    plan = SOLVERS["edm_stochastic"](schedule, times, churn=1.0, s_min=1.5, s_max=7.0)
    assert [bool(row.advance.z) for row in plan.rows] == [False] * 3 + [True, False, True] + [False] * 4
    starts = [level.sigma / level.alpha for level in plan.levels[:-1:2]]
    np.testing.assert_allclose(starts, [20.0, 10.0, 5.0 * 1.2, 2.0 * 1.2, 1.0], rtol=1e-9)


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "options", "message"),
    [
        ("ddim", {"eta": -0.1}, r"eta must lie in \[0, 1\].*got -0.1"),
        ("euler_ancestral", {"eta": 1.5}, r"eta must lie in \[0, 1\].*got 1.5"),
        ("dpm2_ancestral", {"eta": -0.1}, r"eta must lie in \[0, 1\].*got -0.1"),
        ("heun", {"coordinate": "lam"}, "coordinate must be one of sigma, u, got 'lam'"),
        ("edm_stochastic", {"churn": -1.0}, "churn must be finite and at least 0"),
        ("edm_stochastic", {"churn": math.nan}, "churn must be finite"),
        ("edm_stochastic", {"s_min": 2.0, "s_max": 1.0}, "0 <= s_min <= s_max is needed, got 2.0 and 1.0"),
        ("edm_stochastic", {"s_noise": 0.0}, "s_noise must be positive"),
        ("lms", {"order": 0}, "order must be 1, 2, 3 or 4, got 0"),
        ("lms", {"order": 5}, "order must be 1, 2, 3 or 4, got 5"),
    ],
)
def test_nonsense_is_refused(solver, options, message):
    with pytest.raises(ValueError, match=message):
        SOLVERS[solver](DiscreteSchedule(make_betas()), [1.0, 0.5, 0.0], **options)
