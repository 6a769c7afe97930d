"""Grids: where they put their points, beside diffusers and beside their formulas."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from diffusers import DDIMScheduler

from snowmelt.core import VE, DiscreteSchedule, make_betas
from snowmelt.plans import GRIDS


@pytest.mark.parametrize("grid", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [2, 3, 7, 10, 50, 333, 1000])
def test_trained_indices_equal_diffusers(grid, steps):
    schedule = DiscreteSchedule(make_betas())
    peer = DDIMScheduler(timestep_spacing=grid)
    peer.set_timesteps(steps)
    times = GRIDS[grid](schedule, steps)
    assert [round(schedule.index_of_t(t)) for t in times[:-1]] == peer.timesteps.tolist()
    assert times[-1] == 0.0


def test_all_trained_indices_are_one_grid():
    schedule = DiscreteSchedule(make_betas(num_timesteps=100))
    assert len({GRIDS[grid](schedule, 100) for grid in ("leading", "trailing", "linspace", "uniform_t")}) <= 2
    for grid in ("leading", "trailing", "linspace", "uniform_t"):
        index = [schedule.index_of_t(t) for t in GRIDS[grid](schedule, 100)]
        np.testing.assert_allclose(index, np.arange(99, -2, -1), atol=1e-9)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_grids_fall_strictly_to_the_clean_image(grid, steps, schedule):
    if schedule.num_timesteps is None and grid in ("leading", "linspace"):
        return
    if schedule.num_timesteps is not None and steps > schedule.num_timesteps:
        return
    times = GRIDS[grid](schedule, steps)
    assert len(times) == steps + 1
    assert all(a > b for a, b in pairwise(times))
    assert times[-1] == 0.0
    if grid != "leading":
        assert times[0] == 1.0


def test_karras_is_edms_equation_5():
    schedule = VE(sigma_min=0.01, sigma_max=50.0)
    n, rho = 12, 5.0
    expected = [
        (50.0 ** (1 / rho) + i / (n - 1) * (0.01 ** (1 / rho) - 50.0 ** (1 / rho))) ** rho for i in range(n)
    ]
    sigmas = [schedule(t).sigma for t in GRIDS["karras"](schedule, n, rho=rho)]
    np.testing.assert_allclose(sigmas, [*expected, 0.0], rtol=1e-10)


def test_uniform_lam_is_even_between_the_finite_ends(schedule):
    lam = [schedule(t).lam for t in GRIDS["uniform_lam"](schedule, 9)]
    inner = lam[1:-1]
    np.testing.assert_allclose(np.diff(inner), inner[1] - inner[0], rtol=1e-6)
    assert inner[-1] == pytest.approx(schedule(schedule.t_min).lam)
    assert lam[-1] == math.inf
