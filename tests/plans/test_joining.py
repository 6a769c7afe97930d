"""Joined plans do in one run what their parts do one after another, whatever outputs they weigh."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from snowmelt.core import CosineVP, LinearVP, RectifiedFlow
from snowmelt.denoisers import GaussianMixture
from snowmelt.plans import ddim, integrate
from snowmelt.plans.joining import join, lift
from snowmelt.plans.solvers.adams import adams
from snowmelt.plans.solvers.deis import deis
from snowmelt.plans.solvers.lms import lms
from snowmelt.plans.solvers.pndm import pndm
from snowmelt.plans.solvers.restart import restart
from snowmelt.plans.solvers.unipc import unipc
from snowmelt.plans.unrolling import unrolled

from .cases import KINDS
from .coefficients import known_image, last_weights, normal, variance

BALANCED = partial(adams, order=3, corrector_order=4, quantity="eps", coordinate="u")  # as the preset
ON_EPS = {
    "adams": BALANCED,
    "deis": deis,
    "lms": lms,
    "pndm": pndm,
    "unipc": partial(unipc, quantity="eps"),
}
MIXTURE = GaussianMixture(torch.tensor([[-1.0], [0.3], [0.8]], dtype=torch.float64), std=0.4)


@pytest.mark.parametrize("name", ON_EPS)
def test_a_plan_written_on_x0_makes_the_same_states(name):
    for kind, schedule in KINDS.items():
        plan = ON_EPS[name](schedule, [0.9, 0.7, 0.5, 0.4, 0.25, 0.1, 0.0])
        on_x0 = unrolled(plan)
        assert (plan.quantity, on_x0.quantity) == ("eps", "x0")
        x = plan.prior_std * torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
        result, expected = (integrate(table, MIXTURE, x) for table in (on_x0, plan))
        torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9, msg=kind)


def test_v_too_can_be_written_on_x0():
    plan = adams(CosineVP(), [1.0, 0.8, 0.5, 0.2, 0.1], order=2, corrector_order=3, quantity="v")
    x = torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        integrate(unrolled(plan), MIXTURE, x), integrate(plan, MIXTURE, x), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("kind", ["flow", "ddpm-zero-snr"])
@pytest.mark.parametrize("inner", ON_EPS.values(), ids=ON_EPS)
def test_restart_on_eps_out_of_pure_noise_is_its_inner_solver_piece_by_piece(inner, kind):
    """The first piece starts where eps says nothing and is on x0; the others are on eps."""
    schedule, times = KINDS[kind], [1.0, 0.85, 0.7, 0.5, 0.4, 0.3, 0.1, 0.0]
    pieces = [inner(schedule, part) for part in (times[:6], times[2:6], times[5:])]
    assert [piece.quantity for piece in pieces] == ["x0", "eps", "eps"]
    plan = restart(schedule, times, inner=inner, interval=(0.3, 0.7), repeats=2)
    assert plan.nfe == pieces[0].nfe + 2 * pieces[1].nfe + pieces[2].nfe

    x = torch.randn(5, 1, dtype=torch.float64)
    draws = torch.randn(2, 5, 1, dtype=torch.float64)
    up = lift(schedule(0.3), schedule(0.7))
    state = integrate(pieces[0], MIXTURE, x)
    for z in draws:
        state = integrate(pieces[1], MIXTURE, up.y * state + up.z * z)
    state = integrate(pieces[2], MIXTURE, state)
    joined = integrate(plan, MIXTURE, x, noise=iter(draws).__next__)
    torch.testing.assert_close(joined, state, rtol=1e-9, atol=1e-9)


MEAN, STD = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64)


def test_joined_pieces_lead_to_the_law_of_the_data():
    """Down, up by fresh noise, and down again: the marginal at t = 0.2 is known exactly."""
    schedule, end = RectifiedFlow(), RectifiedFlow()(0.2)
    errors = []
    for n in (40, 80):
        ramp = np.linspace(0, 1, n + 1) ** 2  # slow at first, where the order is lower
        spans = ((1.0, 0.3), (0.6, 0.3), (0.6, end.t))
        parts = [BALANCED(schedule, (start - (start - stop) * ramp).tolist()) for start, stop in spans]
        assert {part.quantity for part in parts} == {"x0", "eps"}
        weights = last_weights(join(parts), normal(MEAN, STD), 0.0, 1.0)
        assert weights[0, 0].item() == pytest.approx(end.alpha * MEAN.item(), abs=1e-12)
        errors.append((variance(weights) - (end.alpha**2 * STD**2 + end.sigma**2)).abs().item())
    assert errors[1] < 1e-6
    assert math.log2(errors[0] / errors[1]) > 3.4


def test_if_the_image_is_known_joined_pieces_end_at_its_marginal():
    for kind, schedule in KINDS.items():
        first = BALANCED(schedule, [1.0, 0.8, 0.6, 0.4])
        plan = join([first, ddim(schedule, [0.6, 0.5, 0.4]), BALANCED(schedule, [0.5, 0.3, 0.2, 0.1])])
        assert plan.quantity == "x0"
        start, end = plan.levels[0], plan.end
        weights = last_weights(plan, known_image, start.alpha, start.sigma)
        assert weights[0, 0].item() == pytest.approx(end.alpha, rel=1e-7), kind
        assert variance(weights).item() == pytest.approx(end.sigma**2, rel=1e-6), kind


def test_plans_on_one_output_are_joined_as_they_are():
    parts = [deis(LinearVP(), times) for times in ([1.0, 0.7, 0.5], [0.5, 0.2, 0.0])]
    plan = join(parts)
    assert plan.quantity == "eps"
    assert plan.rows[2].advance == parts[1].rows[0].advance


def test_noise_between_rows_on_eps_cannot_be_unrolled():
    noisy = adams(LinearVP(), [0.5, 0.2, 0.0], quantity="eps", tau=1.0)
    with pytest.raises(ValueError, match="cannot be written on x0, because it draws noise: take a solver on"):
        join([ddim(LinearVP(), [1.0, 0.5]), noisy])
