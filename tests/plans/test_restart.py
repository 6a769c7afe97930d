"""Restarts: their inner solver, piece by piece, with exactly the noise that is missing in between."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snowmelt.core import DiscreteSchedule, LinearVP, RectifiedFlow, make_betas
from snowmelt.denoisers import GaussianMixture
from snowmelt.plans import SOLVERS, ddim, integrate
from snowmelt.plans.joining import lift

DDPM = DiscreteSchedule(make_betas())
restart = SOLVERS["restart"]


def test_a_lift_leads_to_the_marginal_of_the_upper_level(schedule):
    s, t = schedule(0.3), schedule(0.8)
    step = lift(s, t)
    assert step.y * s.alpha == pytest.approx(t.alpha)
    assert (step.y * s.sigma) ** 2 + step.z**2 == pytest.approx(t.sigma**2)


@pytest.mark.parametrize("inner", ["ddim", "unipc", "pndm", "dpmpp_2s"])
def test_restart_is_its_inner_solver_piece_by_piece(inner):
    times, schedule, solver = [0.9, 0.7, 0.5, 0.3, 0.1, 0.0], LinearVP(), SOLVERS[inner]
    plan = restart(schedule, times, inner=solver, interval=(0.28, 0.72), repeats=2)
    denoiser = GaussianMixture(torch.randn(3, 2, dtype=torch.float64), 0.4)
    x = torch.randn(4, 2, dtype=torch.float64)
    draws = torch.randn(2, 4, 2, dtype=torch.float64)
    up = lift(schedule(0.3), schedule(0.7))
    state = integrate(solver(schedule, times[:4]), denoiser, x)
    for z in draws:
        state = integrate(solver(schedule, times[1:4]), denoiser, up.y * state + up.z * z)
    state = integrate(solver(schedule, times[3:]), denoiser, state)
    result = integrate(plan, denoiser, x, noise=iter(draws).__next__)
    torch.testing.assert_close(result, state, rtol=1e-9, atol=1e-9)


def test_restart_contracts_the_error_of_a_wrong_start():
    """A state far from the marginal: one descent keeps the error, restarts shrink it."""
    denoiser = GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), 0.5)
    x = torch.full((1000, 1), 3.0, dtype=torch.float64)
    times = np.linspace(1, 0, 51).tolist()
    means = [
        integrate(restart(LinearVP(), times, interval=(0.1, 0.6), repeats=k), denoiser, x).mean().item()
        for k in (0, 1)
    ]
    assert abs(means[1]) < 0.2 * abs(means[0])


def test_restart_with_nothing_inside_its_interval_is_its_inner_solver():
    times = [1.0, 0.5, 0.2, 0.0]
    assert restart(DDPM, times, interval=(0.4, 0.45)) == ddim(DDPM, times)
    inner = {"inner": SOLVERS["dpmpp_2m"], "inner_options": {"solver_type": "heun"}}
    expected = SOLVERS["dpmpp_2m"](DDPM, times, solver_type="heun")
    assert restart(DDPM, times, repeats=0, **inner) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": -1}, "repeats must be"),
        ({"repeats": 1.5}, "repeats must be"),
        ({"interval": (0.5, 0.1)}, "interval must be"),
        ({"interval": (0.1, 0.3, 0.5)}, "interval must be"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        restart(RectifiedFlow(), [1.0, 0.7, 0.4, 0.0], **options)
