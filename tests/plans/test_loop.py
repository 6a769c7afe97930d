"""Laws of the loop: it does what the table says, and nothing else matters to it."""

from __future__ import annotations

import pytest
import torch

from snowmelt.core import PARAMETERIZATIONS, DiscreteSchedule, Level, make_betas
from snowmelt.denoisers import GaussianMixture
from snowmelt.plans import SOLVERS, Combination, Plan, Row, integrate, make_plan, trajectory

from .cases import KINDS

DDPM = DiscreteSchedule(make_betas())
MEANS = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
DRAWS = torch.randn(64, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
MIXTURE = GaussianMixture(MEANS, 0.3)


def run(plan, denoiser, x, draws=DRAWS):
    return integrate(plan, denoiser, x, noise=iter(draws).__next__)


# -- the table -----------------------------------------------------------------------------------------


def test_the_loop_does_what_the_table_says():
    """A table that uses every column, beside the same arithmetic written out by hand."""
    rows = (
        Row(Level(0.9, 0.5, 0.8), Combination(0.1, 0.2, (0.3,), 0.4), Combination(0.5, 0.6, (0.7,), 0.8)),
        Row(
            Level(0.5, 0.7, 0.6),
            Combination(1.1, 1.2, (1.3, 1.4), 1.5),
            Combination(1.6, 1.7, (1.8, 1.9), 2.0),
        ),
    )
    plan = Plan(rows, Level(0.0, 1.0, 0.0))
    draws = torch.randn(2, 1, 1, 1, 1, dtype=torch.float64)
    x = y = torch.randn(1, 1, 1, 1, dtype=torch.float64)
    result = run(plan, lambda x_t, level, _: x_t.sin() + level.t, x, draws)

    m0 = y.sin() + 0.9
    x = 0.5 * x + 0.6 * y + 0.7 * m0
    y = 0.1 * x + 0.2 * y + 0.3 * m0 + 0.4 * draws[0]
    m1 = y.sin() + 0.5
    x = 1.6 * x + 1.7 * y + 1.8 * m1 + 1.9 * m0 + 2.0 * draws[0]
    y = 1.1 * x + 1.2 * y + 1.3 * m1 + 1.4 * m0 + 1.5 * draws[1]
    torch.testing.assert_close(result, y)


@pytest.mark.parametrize("quantity", ["x0", "eps", "v"])
def test_one_step_is_the_same_in_every_quantity(quantity):
    """DDIM's step (Song et al. 2021, eq. 12), written on x0, on eps and on v."""
    s, t = DDPM(0.7), DDPM(0.4)
    on = {
        "x0": Combination(y=t.sigma / s.sigma, m=(t.alpha - s.alpha * t.sigma / s.sigma,)),
        "eps": Combination(y=t.alpha / s.alpha, m=(t.sigma - t.alpha * s.sigma / s.alpha,)),
        "v": Combination(y=t.alpha * s.alpha + t.sigma * s.sigma, m=(t.sigma * s.alpha - t.alpha * s.sigma,)),
    }
    x = torch.randn(5, 3, dtype=torch.float64)
    result = integrate(Plan((Row(s, on[quantity]),), t, quantity), MIXTURE, x)
    torch.testing.assert_close(result, integrate(SOLVERS["ddim"](DDPM, [0.7, 0.4]), MIXTURE, x))


def test_the_denoiser_is_called_once_a_row_at_the_plans_levels():
    labels = torch.tensor([1, 2])
    for solver in SOLVERS:
        plan = make_plan(DDPM, solver, 5)
        seen = []

        def spy(x_t, level, class_labels, seen=seen):
            seen.append((level, class_labels))
            return x_t

        integrate(plan, spy, torch.randn(2, 1, 2, 2), labels)
        assert [level for level, _ in seen] == [row.level for row in plan.rows], solver
        assert all(given is labels for _, given in seen)


def test_fresh_noise_is_drawn_in_rows_that_use_it_alone():
    plan = make_plan(DDPM, "ddim", 4, eta=0.5)
    drawn = []
    integrate(plan, MIXTURE, DRAWS[0], noise=lambda: drawn.append(1) or DRAWS[0])
    assert len(drawn) == 3  # none in the step to the image
    integrate(make_plan(DDPM, "ddim", 4), MIXTURE, DRAWS[0], noise=lambda: pytest.fail("no noise is needed"))


def test_trajectory_yields_every_state_and_ends_where_integrate_does():
    plan = make_plan(DDPM, "ddim", 5)
    x = torch.randn(2, 3, dtype=torch.float64)
    states = list(trajectory(plan, MIXTURE, x))
    assert [state.level for state in states] == list(plan.levels[1:])
    assert torch.equal(states[-1].x_t, integrate(plan, MIXTURE, x))
    assert torch.equal(states[0].x0, MIXTURE(x, plan.levels[0]))
    assert torch.equal(states[1].x0, MIXTURE(states[0].x_t, plan.levels[1]))


def test_the_given_state_is_left_alone():
    x = torch.randn(2, 3)
    before = x.clone()
    integrate(make_plan(DDPM, "ddpm", 5), lambda x_t, level, _: 0.5 * x_t, x)
    assert torch.equal(x, before)


# -- dialects ------------------------------------------------------------------------------------------


def spoken(name: str):
    """The mixture, said by a network that predicts `name` and decoded again."""
    parameterization = PARAMETERIZATIONS[name]

    def denoiser(x_t, level, class_labels=None):
        x0 = MIXTURE(x_t, level)
        eps = (x_t - level.alpha * x0) / level.sigma
        return parameterization.x0(x_t, parameterization.target(x0, eps, level), level)

    return denoiser


def test_one_posterior_is_one_denoiser_in_every_dialect(schedule):
    """If denoisers agree at every level and state, so does whatever runs them."""
    for name in PARAMETERIZATIONS:
        for t in (1.0, 0.999, 0.7, 0.31, 0.05, 0.002):
            level = schedule(t)
            if name == "eps" and level.alpha < 1e-3:
                continue  # eps says next to nothing about the image there
            x_t = (level.alpha**2 + level.sigma**2) ** 0.5 * DRAWS[0]
            result, expected = spoken(name)(x_t, level), MIXTURE(x_t, level)
            torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9, msg=f"{name} at {level}")


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_run_is_the_same_in_every_dialect(solver):
    plan = make_plan(KINDS["vp-linear"], solver, 6)
    for name in PARAMETERIZATIONS:
        one, other = run(plan, MIXTURE, DRAWS[0]), run(plan, spoken(name), DRAWS[0])
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, msg=name)


# -- what must not matter ------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["dpmpp_sde", "sa_solver", "restart", "adams"])
def test_rotating_the_data_rotates_the_samples(solver):
    """The loop treats all pixels alike, whichever columns of the table are in use."""
    options = {"adams": {"quantity": "eps", "corrector_order": 4}}.get(solver, {})
    plan = make_plan(DDPM, solver, 6, **options)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    x = torch.randn(4, 3, dtype=torch.float64)
    turned = run(plan, GaussianMixture(MEANS @ rotation, 0.3), x @ rotation, DRAWS @ rotation)
    torch.testing.assert_close(turned, run(plan, MIXTURE, x) @ rotation)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_bf16_network_costs_no_more_than_its_own_rounding(solver):
    """The state stays in float32: outputs that are off by bf16's 2^-8 move the image by about as much."""
    mixture = GaussianMixture(MEANS.float(), 0.3)

    def rounded(x_t, level, class_labels):
        return mixture(x_t, level).bfloat16().to(x_t.dtype)

    plan = make_plan(DDPM, solver, 20)
    x = torch.randn(4, 3)
    exact, cheap = (run(plan, denoiser, x, DRAWS.float()) for denoiser in (mixture, rounded))
    assert cheap.dtype == torch.float32
    assert (cheap - exact).abs().max() < 8 * 2**-8 * MEANS.abs().max()
