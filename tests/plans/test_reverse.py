"""From the image to the noise: the same method on rising times, with care at both ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from snowmelt.core import CosineVP, DiscreteSchedule, RectifiedFlow, make_betas
from snowmelt.denoisers import GaussianMixture
from snowmelt.plans import SOLVERS, ddim, integrate, reverse

from .cases import CASES, KINDS
from .coefficients import known_image, last_weights

DDPM = DiscreteSchedule(make_betas())
REVERSIBLE = [case for case in CASES if not case.stochastic]


@pytest.mark.parametrize("case", REVERSIBLE, ids=str)
def test_of_a_known_image_a_reversed_method_keeps_the_noise(case):
    """x_t = alpha_t x0 + sigma_t eps with one eps at every level. Both ends are ordinary numbers."""
    for kind in ("ddpm", "ddpm-zero-snr", "flow"):
        schedule = KINDS[kind]
        if case.runs_on(schedule):
            for times in ([1.0, 0.5, 0.0], np.linspace(1.0, 0.0, 10).tolist()):
                plan = reverse(schedule, times, SOLVERS[case.solver], **case.options)
                assert "Infinity" not in plan.to_json()
                assert "NaN" not in plan.to_json()
                assert plan.end == schedule(1.0)
                assert all(level.sigma > 0 for level in plan.levels)
            plan = reverse(schedule, [0.9, 0.6, 0.4, 0.3, 0.1], SOLVERS[case.solver], **case.options)
            if case.quantity != "v":  # the v of a known image is not a polynomial
                start, end = plan.levels[0], plan.end
                of_image, of_noise = last_weights(plan, known_image, start.alpha, start.sigma)[0].tolist()
                assert of_image == pytest.approx(end.alpha, rel=1e-7), kind
                assert of_noise == pytest.approx(end.sigma, rel=1e-7), kind


@pytest.mark.parametrize(
    ("solver", "options", "order"),
    [
        ("ddim", {}, 1),
        ("adams", {"order": 2, "coordinate": "u"}, 2),
        ("adams", {"order": 2, "quantity": "eps"}, 2),
    ],
)
def test_there_and_back_errs_by_the_order(solver, options, order):
    schedule = CosineVP()
    denoiser = GaussianMixture(torch.tensor([[0.5], [-0.5]], dtype=torch.float64), 0.5)
    x0 = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]
    errors = []
    for steps in (40, 80, 160):
        times = np.linspace(0.9, 0.0, steps + 1).tolist()
        noise = integrate(reverse(schedule, times, SOLVERS[solver], **options), denoiser, x0)
        back = integrate(SOLVERS[solver](schedule, times, **options), denoiser, noise)
        errors.append((back - x0).abs().max().item())
    assert math.log2(errors[1] / errors[2]) > order - 0.2
    assert errors[2] < 0.05


def test_the_step_out_of_a_clean_image_errs_by_the_fourth_power():
    """On a Gaussian the noisy state that belongs to x0 is std_t / std x0, in closed form."""
    schedule, std = CosineVP(), 0.5
    denoiser = GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), std)
    x0 = torch.ones(1, 1, dtype=torch.float64)
    errors = []
    for t in (0.1, 0.05):
        level = schedule(t)
        state = integrate(reverse(schedule, [t, 0.0]), denoiser, x0).item()
        errors.append(abs(state - math.hypot(level.alpha * std, level.sigma) / std))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.2)


def test_from_a_noisy_state_a_reversed_plan_is_the_solver_on_rising_times():
    plan = reverse(DDPM, [0.9, 0.5, 0.1])
    assert plan == ddim(DDPM, [0.1, 0.5, 0.9])
    assert plan.name == "reverse(ddim)"


def test_what_cannot_be_reversed_is_refused():
    with pytest.raises(ValueError, match="at least two times"):
        reverse(DDPM, [0.5])
    with pytest.raises(ValueError, match="no time between them"):
        reverse(RectifiedFlow(), [1.0, 0.0])
    with pytest.raises(ValueError, match="only a deterministic solver can be reversed"):
        reverse(RectifiedFlow(), [1.0, 0.7, 0.4, 0.0], SOLVERS["ddpm"])
