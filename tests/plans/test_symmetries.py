"""What must not matter to any solver: where the axes point, the units of images, a network in bf16."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.core import VE, DiscreteSchedule, Level, RectifiedFlow, make_betas
from snowmelt.denoisers import GaussianMixture
from snowmelt.plans import SOLVERS, make_plan, trajectory

MEANS = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
DRAWS = torch.randn(300, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
SCHEDULES = {"ddpm": DiscreteSchedule(make_betas()), "flow": RectifiedFlow()}


def final(plan, denoiser, x, draws=DRAWS):
    *_, last = trajectory(plan, denoiser, plan.levels[0].sigma * x, noise=iter(draws).__next__)
    return last.x_t


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_rotating_the_data_rotates_the_samples(solver, schedule):
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    plan = make_plan(schedule, solver, 6)
    x = torch.randn(4, 3, dtype=torch.float64)
    turned = final(plan, GaussianMixture(MEANS @ rotation, 0.3), x @ rotation, DRAWS @ rotation)
    torch.testing.assert_close(turned, final(plan, GaussianMixture(MEANS, 0.3), x) @ rotation)


@pytest.mark.parametrize("solver", sorted(SOLVERS.keys() - {"edm_stochastic"}))  # its s_min, s_max have units
@given(unit=st.floats(0.1, 10.0))
def test_other_units_of_the_data_scale_the_samples(solver, unit):
    """Data and noise in other units: every state is in other units, and nothing else changes."""
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    one, other = (
        final(
            make_plan(VE(0.01 * scale, 20.0 * scale), solver, 6, "karras"),
            GaussianMixture(MEANS * scale, 0.3 * scale),
            x,
        )
        for scale in (1.0, unit)
    )
    torch.testing.assert_close(other / unit, one, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_bf16_network_costs_no_more_than_its_own_rounding(solver):
    """The state stays in float32: outputs that are off by bf16's 2^-8 move the image by about as much."""
    mixture = GaussianMixture(MEANS.float(), 0.3)

    def rounded(x_t: torch.Tensor, level: Level[float], class_labels: object) -> torch.Tensor:
        return mixture(x_t, level).bfloat16().to(x_t.dtype)

    plan = make_plan(SCHEDULES["ddpm"], solver, 20)
    x, draws = torch.randn(4, 3), DRAWS.float()
    exact, cheap = (final(plan, denoiser, x, draws) for denoiser in (mixture, rounded))
    assert cheap.dtype == torch.float32
    assert (cheap - exact).abs().max() < 8 * 2**-8 * MEANS.abs().max()
