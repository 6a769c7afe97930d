"""Laws of the solvers: exactness, equality with closed forms and with an independent library."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.core import (
    PARAMETERIZATIONS,
    CosineVP,
    DiscreteSchedule,
    Level,
    LinearVP,
    RectifiedFlow,
    make_betas,
)
from snowmelt.denoisers import GaussianMixture, NetworkDenoiser
from snowmelt.plans import (
    SOLVERS,
    Combination,
    Plan,
    Row,
    ddim,
    ddpm,
    integrate,
    make_plan,
    trajectory,
)
from snowmelt.plans.builder import first_order_step, multistep_weights

DDPM = DiscreteSchedule(make_betas())


# -- the loop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_the_denoiser_is_called_once_a_row_at_the_plans_levels(solver, steps):
    plan = make_plan(DDPM, solver, steps)
    seen = []

    def spy(x_t, level, class_labels):
        seen.append((level, class_labels))
        return x_t

    labels = torch.tensor([1, 2])
    integrate(plan, spy, torch.randn(2, 1, 2, 2), labels)
    assert [level for level, _ in seen] == list(plan.levels[:-1])
    assert all(given is labels for _, given in seen)


def test_trajectory_yields_every_state_and_ends_where_integrate_does():
    plan = make_plan(DDPM, "ddim", 5)
    denoiser = GaussianMixture(torch.randn(3, 1, 2, 2), 0.1)
    x = torch.randn(2, 1, 2, 2)
    states = list(trajectory(plan, denoiser, x))
    assert [state.level for state in states] == list(plan.levels[1:])
    assert torch.equal(states[-1].x_t, integrate(plan, denoiser, x))
    assert torch.equal(states[0].x0, denoiser(x, plan.levels[0]))


def test_the_loop_does_what_the_table_says():
    # A table that uses every column, against the same arithmetic written out by hand
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
    source = iter(draws)
    result = integrate(plan, lambda x_t, level, _: x_t.sin() + level.t, x, noise=lambda: next(source))

    m0 = y.sin() + 0.9
    x = 0.5 * x + 0.6 * y + 0.7 * m0
    y = 0.1 * x + 0.2 * y + 0.3 * m0 + 0.4 * draws[0]
    m1 = y.sin() + 0.5
    x = 1.6 * x + 1.7 * y + 1.8 * m1 + 1.9 * m0 + 2.0 * draws[0]
    y = 1.1 * x + 1.2 * y + 1.3 * m1 + 1.4 * m0 + 1.5 * draws[1]
    torch.testing.assert_close(result, y)


@pytest.mark.parametrize("quantity", ["x0", "eps", "v"])
def test_one_step_is_the_same_in_every_quantity(quantity):
    # DDIM's step (Song et al. 2021, eq. 12) written on x0, on eps and on v
    s, t = DDPM(0.7), DDPM(0.4)
    on = {
        "x0": first_order_step(s, t),
        "eps": Combination(y=t.alpha / s.alpha, m=(t.sigma - t.alpha * s.sigma / s.alpha,)),
        "v": Combination(y=t.alpha * s.alpha + t.sigma * s.sigma, m=(t.sigma * s.alpha - t.alpha * s.sigma,)),
    }
    denoiser = GaussianMixture(torch.randn(3, 4, dtype=torch.float64), 0.3)
    x = torch.randn(5, 4, dtype=torch.float64)
    expected = integrate(Plan((Row(s, on["x0"]),), t), denoiser, x)
    torch.testing.assert_close(integrate(Plan((Row(s, on[quantity]),), t, quantity), denoiser, x), expected)


def test_the_given_state_is_left_alone():
    x = torch.randn(2, 3)
    before = x.clone()
    integrate(make_plan(DDPM, "ddpm", 5), lambda x_t, level, _: 0.5 * x_t, x)
    assert torch.equal(x, before)


# -- exactness -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@given(
    inner=st.lists(st.integers(1, 49), max_size=6, unique=True),
    value=st.floats(-1, 1),
    seed=st.integers(0, 99),
)
def test_a_constant_image_is_reached_on_any_grid(solver, schedule_name, inner, value, seed):
    schedule = {"ddpm": DDPM, "cosine": CosineVP(), "flow": RectifiedFlow(), "vp": LinearVP()}[schedule_name]
    times = [1.0, *(k / 50 for k in sorted(inner, reverse=True)), 0.0]
    plan = SOLVERS[solver](schedule, times)
    x = torch.randn(1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    result = integrate(plan, lambda x_t, level, _: torch.full_like(x_t, value), x)
    torch.testing.assert_close(result, torch.full_like(x, value), rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module", params=["ddpm", "cosine", "flow", "vp"])
def schedule_name(request):
    return request.param


@pytest.mark.parametrize("name", ["x0", "v", "flow", "edm"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("grid", ["uniform_t", "karras"])
def test_all_dialects_give_one_image(name, solver, grid, schedule):
    """One posterior, spoken as x0, eps, v, flow or F, gives one image."""
    oracle = GaussianMixture(torch.randn(4, 3, dtype=torch.float64), 0.2)
    parameterization = PARAMETERIZATIONS[name]

    class Speaker:
        """A network that says, in its dialect, what the oracle knows."""

        def __call__(self, x, time, class_labels):
            level = self.level
            x_t = x / parameterization.input_scale(level)
            x0 = oracle(x_t, level)
            eps = (x_t - level.alpha * x0) / level.sigma
            return parameterization.target(x0, eps, level)

    network = Speaker()
    denoiser = NetworkDenoiser(network, schedule, parameterization)

    def spoken(x_t, level, class_labels):
        network.level = level
        return denoiser(x_t, level, class_labels)

    plan = make_plan(schedule, solver, 6, grid)
    x = plan.prior_std * torch.randn(8, 3, dtype=torch.float64)
    draws = torch.randn(24, 8, 3, dtype=torch.float64)
    one, other = (
        integrate(plan, d, x, noise=iter(draws).__next__)
        for d in (lambda x, level, _: oracle(x, level), spoken)
    )
    torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_eps_gives_the_same_image_below_pure_noise():
    oracle = GaussianMixture(torch.randn(4, 3, dtype=torch.float64), 0.2)
    plan = make_plan(DDPM, "ddim", 20)

    def on_eps(x_t, level, class_labels):
        eps = (x_t - level.alpha * oracle(x_t, level)) / level.sigma
        return PARAMETERIZATIONS["eps"].x0(x_t, eps, level)

    x = torch.randn(8, 3, dtype=torch.float64)
    torch.testing.assert_close(integrate(plan, on_eps, x), integrate(plan, oracle, x), rtol=1e-8, atol=1e-9)


# -- DDPM ----------------------------------------------------------------------------------------------


def posterior(s: Level[float], t: Level[float]) -> tuple[float, float, float]:
    """Weights of x0 and x_s in the mean of q(x_t | x_s, x0), and its variance, by completing the square.

    x_t ~ N(alpha_t x0, sigma_t^2) is the prior, x_s | x_t ~ N(a x_t, v) the likelihood.
    """
    a = s.alpha / t.alpha
    v = s.sigma**2 - a**2 * t.sigma**2
    if t.sigma == 0:
        return t.alpha, 0.0, 0.0
    precision = 1 / t.sigma**2 + a**2 / v
    return t.alpha / t.sigma**2 / precision, a / v / precision, 1 / precision


def test_ddpm_is_the_posterior(schedule):
    times = [1.0, 0.93, 0.5, 0.2, 0.013, 0.0]
    plan = ddpm(schedule, times)
    for row, (s, t) in zip(plan.rows, pairwise(map(schedule, times)), strict=True):
        of_x0, of_x, variance = posterior(s, t)
        assert row.advance.m[0] == pytest.approx(of_x0, rel=1e-9)
        assert row.advance.y == pytest.approx(of_x, rel=1e-9, abs=1e-15)
        assert row.advance.z**2 == pytest.approx(variance, rel=1e-9, abs=1e-15)


def test_ddim_with_full_noise_is_ddpm(schedule):
    times = [1.0, 0.8, 0.31, 0.1, 0.0]
    for one, other in zip(ddim(schedule, times, eta=1.0).rows, ddpm(schedule, times).rows, strict=True):
        np.testing.assert_allclose(one.advance.m, other.advance.m, rtol=1e-9)
        np.testing.assert_allclose(one.advance.y, other.advance.y, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(one.advance.z, other.advance.z, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_marginals_of_a_point_are_exact(schedule, eta):
    """If the image is known, every state of DDIM is N(alpha_t x0, sigma_t^2) whatever eta (its lemma 1)."""
    times = [1.0, 0.7, 0.4, 0.15, 0.0]
    plan = ddim(schedule, times, eta=eta)
    level = plan.levels[0]
    mean, variance = level.alpha, level.sigma**2  # in units of x0
    for row, t in zip(plan.rows, plan.levels[1:], strict=True):
        mean = row.advance.y * mean + row.advance.m[0]
        variance = row.advance.y**2 * variance + row.advance.z**2
        assert mean == pytest.approx(t.alpha, rel=1e-9)
        assert variance == pytest.approx(t.sigma**2, rel=1e-9, abs=1e-15)


def test_ddpm_has_weak_order_one():
    """On a Gaussian, where every state is Gaussian, the variance errs by half as much at twice the steps."""
    schedule, std = LinearVP(), 0.5
    errors = []
    for steps in (500, 1000, 2000):
        plan = make_plan(schedule, "ddpm", steps)
        start = plan.levels[0]
        variance = start.alpha**2 * std**2 + start.sigma**2
        for row in plan.rows:
            alpha, sigma = row.level.alpha, row.level.sigma
            gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)  # E[x0 | x_t] = gain x_t
            variance = (row.advance.y + row.advance.m[0] * gain) ** 2 * variance + row.advance.z**2
        errors.append(abs(variance - std**2))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(1, abs=0.1)


# -- the one formula -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0])
def test_multistep_weights_have_their_order(order, tau):
    """From exact past outputs, one step errs by h^(order + 1): the integral of a smooth D, in closed form."""
    # D(lam) = sin(lam): the integral of c e^{cu} sin(lam_t + u) is [e^{cu} c (c sin - cos) / (c^2 + 1)]
    schedule, lam_s, c = CosineVP(), -0.3, 1 + tau**2
    errors, hs = [], np.array([0.1, 0.05, 0.025])
    for h in hs:
        s, t = (schedule(schedule.t_of_lam(lam)) for lam in (lam_s, lam_s + h))
        nodes = [lam_s - j * h for j in range(order)]
        weights = multistep_weights(s, t, nodes, tau)
        ends = [math.exp(c * u) * c * (c * math.sin(t.lam + u) - math.cos(t.lam + u)) for u in (0.0, -h)]
        truth = t.alpha * (ends[0] - ends[1]) / (c**2 + 1)
        errors.append(abs(sum(w * math.sin(n) for w, n in zip(weights, nodes, strict=True)) - truth))
    slopes = np.diff(np.log(errors)) / np.diff(np.log(hs))
    assert slopes[-1] == pytest.approx(order + 1, abs=0.2)


@given(
    lam=st.floats(-4, 4),
    h=st.floats(1e-3, 8),
    offsets=st.lists(st.integers(-9, 9), min_size=1, max_size=3, unique=True),
    tau=st.floats(0, 1),
)
def test_weights_reproduce_a_constant(lam, h, offsets, tau):
    """For a constant image they add up to alpha_t (1 - e^{-(1 + tau^2) h})."""
    schedule = CosineVP()
    s, t = (schedule(schedule.t_of_lam(value)) for value in (lam, lam + h))
    weights = multistep_weights(s, t, [lam + offset for offset in offsets], tau)
    expected = -t.alpha * math.expm1(-(1 + tau**2) * (t.lam - s.lam))
    assert sum(weights) == pytest.approx(expected, rel=1e-9, abs=1e-9 * max(map(abs, weights)))


def test_weights_integrate_a_straight_line():
    # D(lam) = lam: integral of e^{u} (lam_t + u) over [-h, 0] = lam_t (1 - e^{-h}) - 1 + (1 + h) e^{-h}
    s, t = LinearVP()(0.6), LinearVP()(0.35)
    h = t.lam - s.lam
    nodes = [s.lam, s.lam - 0.7]
    weights = multistep_weights(s, t, nodes)
    expected = t.alpha * (t.lam * (1 - math.exp(-h)) - 1 + (1 + h) * math.exp(-h))
    assert sum(w * n for w, n in zip(weights, nodes, strict=True)) == pytest.approx(expected, rel=1e-10)


# -- diffusers -----------------------------------------------------------------------------------------


def network(x, k):
    """A shared stand-in network: smooth, bounded, different at every index."""
    return torch.sin(3 * x + 0.001 * k) * 0.5 + 0.1 * x


def ours(plan, prediction, x, draws):
    denoiser = NetworkDenoiser(
        lambda x, time, _: network(x, time.view(-1, 1, 1, 1)), DDPM, PARAMETERIZATIONS[prediction]
    )
    return integrate(plan, denoiser, x, noise=iter(draws).__next__)


PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def peer(scheduler_class, steps: int, **options):
    """A diffusers scheduler on our betas (its own are float32) and `steps` steps."""
    scheduler = scheduler_class(clip_sample=False, **options)
    index = torch.arange(1000, dtype=torch.float64)
    scheduler.betas = DDPM.betas
    scheduler.alphas = 1 - DDPM.betas
    scheduler.alphas_cumprod = DDPM(DDPM.t_of_index(index)).alpha ** 2
    scheduler.one = scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(steps)
    return scheduler


# `linspace` is left out: there diffusers steps to k - T // n, which is not the next point of its own grid
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 10, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_ddim_equals_diffusers(prediction, steps, spacing, eta, dtype, rtol):
    scheduler = peer(DDIMScheduler, steps, prediction_type=prediction, timestep_spacing=spacing)
    x = torch.randn(2, 1, 4, 4, dtype=dtype)
    draws = torch.randn(steps, 2, 1, 4, 4, dtype=dtype)
    state = x
    for i, k in enumerate(scheduler.timesteps):
        state = scheduler.step(network(state, k), k, state, eta=eta, variance_noise=draws[i]).prev_sample
    plan = make_plan(DDPM, "ddim", steps, spacing, eta=eta)
    result = ours(plan, PREDICTIONS[prediction], x, draws)
    torch.testing.assert_close(result, state.to(dtype), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [10, 100, 1000])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_ddpm_equals_diffusers(prediction, steps, dtype, rtol, monkeypatch):
    scheduler = peer(DDPMScheduler, steps, prediction_type=prediction, timestep_spacing="trailing")
    x = torch.randn(2, 1, 4, 4, dtype=dtype)
    draws = torch.randn(steps, 2, 1, 4, 4, dtype=dtype)
    source = iter(draws)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(source))
    state = x
    for k in scheduler.timesteps:
        state = scheduler.step(network(state, k), int(k), state).prev_sample
    result = ours(make_plan(DDPM, "ddpm", steps), PREDICTIONS[prediction], x, draws)
    torch.testing.assert_close(result, state.to(dtype), rtol=rtol, atol=rtol)
