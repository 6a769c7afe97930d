"""Grids: where they put their points, beside diffusers and beside their formulas."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from diffusers import DDIMScheduler
from diffusers.schedulers import AysSchedules

from snowmelt.core import VE, DiscreteSchedule, LinearVP, RectifiedFlow, make_betas
from snowmelt.plans import GRIDS, make_plan
from snowmelt.plans.grids import TUNED, ays, explicit, tuned

from .cases import GRID_CASES, KINDS

SCHEDULES = {**KINDS, "ddpm-short": DiscreteSchedule(make_betas("linear", 10, 1e-3, 0.5))}


@pytest.mark.parametrize("grid", ["leading", "trailing", "linspace"])
def test_trained_indices_equal_diffusers(grid):
    schedule = DiscreteSchedule(make_betas())
    peer = DDIMScheduler(timestep_spacing=grid)
    for steps in (2, 3, 7, 10, 50, 333, 1000):
        peer.set_timesteps(steps)
        times = GRIDS[grid](schedule, steps)
        assert [round(schedule.index_of_t(t)) for t in times[:-1]] == peer.timesteps.tolist(), steps
        assert times[-1] == 0.0


def test_leading_counts_from_its_offset():
    """The peer's steps_offset, which Stable Diffusion sets to 1."""
    schedule = DiscreteSchedule(make_betas())
    peer = DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    peer.set_timesteps(50)
    times = GRIDS["leading"](schedule, 50, offset=1)
    assert [round(schedule.index_of_t(t)) for t in times[:-1]] == peer.timesteps.tolist()


def test_all_trained_indices_are_one_grid():
    schedule = DiscreteSchedule(make_betas(num_timesteps=100))
    assert len({GRIDS[grid](schedule, 100) for grid in ("leading", "trailing", "linspace", "uniform_t")}) <= 2
    for grid in ("leading", "trailing", "linspace", "uniform_t"):
        index = [schedule.index_of_t(t) for t in GRIDS[grid](schedule, 100)]
        np.testing.assert_allclose(index, np.arange(99, -2, -1), atol=1e-9)


@pytest.mark.parametrize("case", GRID_CASES, ids=str)
def test_grids_fall_strictly_from_pure_noise_to_the_clean_image(case):
    for name, schedule in SCHEDULES.items():
        trained = schedule.num_timesteps
        for steps in (1, 2, 5, 20):
            if steps > (trained or steps) or (trained is None and case.grid in ("leading", "linspace")):
                continue
            times = GRIDS[case.grid](schedule, steps, **case.options)
            assert len(times) == steps + 1, name
            assert all(a > b for a, b in pairwise(times)), name
            assert times[-1] == 0.0
            assert times[0] == 1.0 or case.grid == "leading", name


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


def test_exponential_falls_by_one_factor_as_k_diffusions_does(k_diffusion):
    schedule = VE(sigma_min=0.02, sigma_max=40.0)
    expected = k_diffusion.get_sigmas_exponential(9, 0.02, 40.0).double()
    sigmas = [schedule(t).sigma for t in GRIDS["exponential"](schedule, 9)]
    np.testing.assert_allclose(sigmas, expected, rtol=1e-5)


def test_quadratic_is_even_in_the_root():
    schedule = RectifiedFlow()
    root = np.sqrt(GRIDS["quadratic"](schedule, 6)[:-1])
    np.testing.assert_allclose(np.diff(root), root[1] - root[0], rtol=1e-12)
    assert root[-1] ** 2 == pytest.approx(schedule.t_min)
    assert GRIDS["quadratic"](schedule, 6, power=1.0)[3] == pytest.approx(1 - 0.6 * (1 - schedule.t_min))


@pytest.mark.parametrize(
    ("knots", "sigmas", "indices"),
    [
        ("sd15", "StableDiffusionSigmas", "StableDiffusionTimesteps"),
        ("sdxl", "StableDiffusionXLSigmas", "StableDiffusionXLTimesteps"),
    ],
)
def test_ten_aligned_steps_are_the_published_ones(knots, sigmas, indices):
    # Stable Diffusion's own schedule: "scaled linear" in its terms
    schedule = DiscreteSchedule(make_betas("quadratic", 1000, 0.00085, 0.012))
    levels = [schedule(t) for t in GRIDS["ays"](schedule, 10, knots=knots)]
    # Published to three digits, and stretched from 14.615..0.029 to the schedule's 14.6146..0.0292
    expected = AysSchedules[sigmas][:-1]
    np.testing.assert_allclose([level.sigma / level.alpha for level in levels[:-1]], expected, rtol=6e-3)
    index = [schedule.index_of_t(level.t) for level in levels[:-1]]
    np.testing.assert_allclose(index, AysSchedules[indices], atol=1.5)


def test_aligned_steps_are_log_linear_between_the_knots():
    schedule = VE(sigma_min=0.01, sigma_max=10.0)
    knots = [10.0, 1.0, 0.01]
    lam = [schedule(t).lam for t in ays(schedule, 4, knots)]
    np.testing.assert_allclose(lam[:-1], -np.log([10.0, math.sqrt(10), 1.0, 0.1]), atol=1e-9)


def _share(schedule, t):
    """How far `t` lies from the schedule's lowest noise to its highest, in u = sigma / (alpha + sigma)."""
    u, lowest, highest = (
        level.sigma / (level.alpha + level.sigma)
        for level in (schedule(t), schedule(schedule.t_min), schedule(1.0))
    )
    return (u - lowest) / (highest - lowest)


def test_a_straight_curve_of_knots_is_even_in_log_noise():
    times = tuned(RectifiedFlow(), 8, knots=[64.0, 1.0, 1 / 64])
    share = np.array([_share(RectifiedFlow(), t) for t in times[1:-1]])
    lam = np.log((1 - share) / share)
    np.testing.assert_allclose(lam, np.log(64) * np.linspace(-6 / 7, 6 / 7, 7), atol=1e-9)


def test_tuned_steps_are_one_list_for_all_schedules(schedule):
    expected = [_share(RectifiedFlow(), t) for t in tuned(RectifiedFlow(), 7)[:-1]]
    share = [_share(schedule, t) for t in tuned(schedule, 7)[:-1]]
    np.testing.assert_allclose(share, expected, atol=1e-9)


def test_tuned_steps_fall_for_any_number_of_them():
    for steps in (*range(1, 40), 50, 100, 1000):
        times = GRIDS["tuned"](VE(), steps)
        assert len(times) == steps + 1
        assert all(a > b for a, b in pairwise(times)), steps


def test_between_the_numbers_in_the_table_knots_are_interpolated(monkeypatch):
    monkeypatch.setattr("snowmelt.plans.grids.TUNED", {4: (64.0, 1.0, 0.25), 16: (16.0, 1.0, 0.0625)})
    expected = tuned(VE(), 8, knots=[32.0, 1.0, 0.125])  # 8 is the geometric mean of 4 and 16
    np.testing.assert_allclose(tuned(VE(), 8), expected, rtol=1e-9)


def test_outside_the_table_the_nearest_knots_hold_and_inside_its_own():
    known = sorted(TUNED)
    for steps, nearest in ((known[0] - 1, known[0]), (known[-1] + 7, known[-1])):
        np.testing.assert_allclose(
            tuned(VE(), steps), tuned(VE(), steps, knots=TUNED[nearest]), rtol=1e-9, atol=1e-12
        )
    for steps, knots in TUNED.items():
        np.testing.assert_allclose(tuned(VE(), steps), tuned(VE(), steps, knots=knots), rtol=1e-9)


def test_a_list_is_taken_as_it_stands():
    flow, discrete = RectifiedFlow(), DiscreteSchedule(make_betas())
    assert explicit(flow, times=[1.0, 0.25, 0.0]) == explicit(flow, times=[1.0, 0.25]) == (1.0, 0.25, 0.0)
    times = explicit(discrete, indices=[999, 500, 0])
    assert [round(discrete.index_of_t(t), 9) for t in times] == [999, 500, 0, -1]
    sigmas = [discrete(t).sigma / discrete(t).alpha for t in explicit(discrete, 3, sigmas=[100.0, 3.0, 0.5])]
    np.testing.assert_allclose(sigmas, [100.0, 3.0, 0.5, 0.0], rtol=1e-9)


def test_a_rounded_largest_sigma_is_the_largest():
    schedule = DiscreteSchedule(make_betas("quadratic", 1000, 0.00085, 0.012))  # ends at 14.6146
    assert explicit(schedule, sigmas=[14.615, 1.0])[0] == 1.0


def test_a_list_makes_a_plan():
    plan = make_plan(DiscreteSchedule(make_betas()), "ddim", indices=[999, 600, 200])
    assert [round(level.t, 9) for level in plan.levels] == [1.0, 0.601, 0.201, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": [0.5, 0.5]}, "times must fall strictly, from noise to image; 0.5 is followed by 0.5"),
        ({"times": [1.5, 0.5]}, r"t must lie in \[0, 1\]"),
        ({"times": []}, "times must list at least one evaluation"),
        ({"times": [0.0]}, "times must list at least one evaluation"),
        ({"sigmas": [1.0, 2.0]}, "sigmas must fall strictly"),
        ({"sigmas": [500.0]}, "at most 157.4.*got 500"),
        ({"sigmas": [1.0, -1.0]}, "above 0"),
        ({"indices": [1000, 5]}, r"integers in 0..999, got 1000"),
        ({"indices": [9, 2.5]}, r"integers in 0..999, got 2.5"),
        ({"indices": [9, 2], "times": [1.0]}, "exactly one of times, sigmas and indices"),
        ({"indices": [9, 2], "steps": 3}, "steps is 3, but indices lists 2 evaluations"),
        ({"indices": [9, 2], "grid": "karras"}, "give either grid, got 'karras', or a list"),
        ({"steps": 1001}, "steps must be at most 1000"),
        ({"steps": 5, "grid": "leading", "offset": 300}, "offset 300 puts 5 steps at the indices 300..1100"),
        ({"steps": 5, "grid": "karras", "rho": 0.0}, "rho must be positive"),
        ({"steps": 4, "grid": "ays", "knots": "sd3"}, "knots must be a list of sigma/alpha or one of sd15"),
        ({"steps": 4, "grid": "ays", "knots": [1.0, 2.0]}, "knots must fall strictly"),
        ({"steps": 4, "grid": "ays", "knots": [1.0, 0.0]}, "at least two positive"),
        ({"steps": 4, "grid": "quadratic", "power": 0}, "power must be positive"),
        ({"steps": 4, "grid": "tuned", "knots": [1.0, 2.0]}, "knots must fall strictly"),
        ({"steps": 4, "grid": "tuned", "knots": [1.0]}, "at least two positive"),
        ({"steps": 40, "grid": "tuned", "knots": [9.0, 0.11, 0.1, 0.001]}, "does not fall throughout"),
    ],
)
def test_nonsense_lists_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_plan(DiscreteSchedule(make_betas()), "ddim", **arguments)


def test_indices_need_trained_steps():
    with pytest.raises(ValueError, match="indices count trained steps"):
        explicit(RectifiedFlow(), indices=[5, 2])
    for grid in ("leading", "linspace"):
        with pytest.raises(ValueError, match="counts trained indices"):
            GRIDS[grid](LinearVP(), 5)
