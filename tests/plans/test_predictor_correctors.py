"""Predictor-correctors and Adams methods: beside diffusers, and in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import (
    DEISMultistepScheduler,
    IPNDMScheduler,
    PNDMScheduler,
    SASolverScheduler,
    UniPCMultistepScheduler,
)

from snowmelt.core import CosineVP, DiscreteSchedule, RectifiedFlow, make_betas
from snowmelt.denoisers import GaussianMixture
from snowmelt.plans import SOLVERS, integrate

from .cases import Case
from .peers import network, of_network
from .test_orders import error

DDPM = DiscreteSchedule(make_betas())
INDICES = [999, 870, 742, 640, 511, 400, 287, 190, 101, 20]
FIRST = DDPM.t_of_index(0)  # where peers end that meet 0 * inf at sigma = 0


def ours(plan, x, draws=(), prediction="eps"):
    return integrate(plan, of_network(DDPM, prediction), x, noise=iter(draws).__next__)


def peer(scheduler_class, times, **options):
    """A diffusers scheduler at our times, with our levels in float64."""
    scheduler = scheduler_class(**options)
    scheduler.set_timesteps(len(times) - 1)
    levels = [DDPM(t) for t in times]
    scheduler.sigmas = torch.tensor([s / a for _, a, s in levels], dtype=torch.float64)
    scheduler.timesteps = torch.tensor([round(DDPM.index_of_t(t)) for t in times[:-1]])
    return scheduler


def theirs(scheduler, x):
    state = x
    for k in scheduler.timesteps:
        state = scheduler.step(network(state, k), k, state).prev_sample
    return state


def times_of(steps, end=0.0):
    return [*(DDPM.t_of_index(k) for k in INDICES[:steps]), end]


def images(dtype=torch.float64):
    return torch.randn(2, 1, 4, 4, dtype=dtype)


def assert_equal(result, expected, rtol=1e-9):
    """Equal in norm: near pure noise a single number may be far smaller than what it is the difference of."""
    assert result.isfinite().all()
    assert (result - expected).norm() <= rtol * expected.norm()


RUNS = [*((steps, torch.float64, 1e-9) for steps in (1, 2, 3, 10)), (10, torch.float32, 1e-4)]


# -- diffusers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("quantity", ["x0", "eps"])
@pytest.mark.parametrize("corrector", [True, False])
def test_unipc_equals_diffusers(variant, order, quantity, corrector):
    for steps, dtype, rtol in RUNS:
        # sigma_t e^h and sigma_t h are 0 * inf to the peer at sigma = 0
        times = times_of(steps, FIRST if quantity == "eps" or variant == "bh1" else 0.0)
        scheduler = peer(
            UniPCMultistepScheduler,
            times,
            solver_order=order,
            solver_type=variant,
            predict_x0=quantity == "x0",
            disable_corrector=[] if corrector else list(range(steps)),
        )
        x = images(dtype)
        plan = SOLVERS["unipc"](
            DDPM, times, order=order, variant=variant, corrector=corrector, quantity=quantity
        )
        assert_equal(ours(plan, x), theirs(scheduler, x), rtol)


@pytest.mark.parametrize("order", [2, 3])
def test_unipc_without_lower_order_at_the_end_equals_diffusers(order):
    times, x = times_of(10, FIRST), images()
    scheduler = peer(UniPCMultistepScheduler, times, solver_order=order, lower_order_final=False)
    plan = SOLVERS["unipc"](DDPM, times, order=order, lower_order_final=False)
    assert_equal(ours(plan, x), theirs(scheduler, x))


@pytest.mark.parametrize("predictor_order", [1, 2, 3])
@pytest.mark.parametrize("corrector_order", [1, 2, 3, 4])
@pytest.mark.parametrize("lower_order_final", [True, False])
def test_sa_solver_equals_diffusers(predictor_order, corrector_order, lower_order_final, monkeypatch):
    times = times_of(10, FIRST)
    scheduler = peer(
        SASolverScheduler,
        times,
        predictor_order=predictor_order,
        corrector_order=corrector_order,
        tau_func=lambda k: torch.tensor(0.7 if 200 <= k <= 800 else 0.0, dtype=torch.float64),
        lower_order_final=lower_order_final,
    )
    x, draws = images(), torch.randn(10, 2, 1, 4, 4, dtype=torch.float64)
    give_noise(monkeypatch, draws)
    plan = SOLVERS["sa_solver"](
        DDPM,
        times,
        predictor_order=predictor_order,
        corrector_order=corrector_order,
        tau=0.7,
        interval=(0.201, 0.801),
        lower_order_final=lower_order_final,
    )
    # the peer draws noise in every step, also where it has no weight
    used = [z for z, row in zip(draws, plan.rows, strict=True) if row.advance.z]
    assert_equal(ours(plan, x, used), theirs(scheduler, x))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_adams_on_eps_equals_sa_solver_on_noise(order, monkeypatch):
    times = times_of(10, FIRST)
    scheduler = peer(
        SASolverScheduler,
        times,
        predictor_order=order,
        corrector_order=order,
        algorithm_type="noise_prediction",
        tau_func=lambda k: torch.tensor(0.7, dtype=torch.float64),
    )
    x, draws = images(), torch.randn(10, 2, 1, 4, 4, dtype=torch.float64)
    give_noise(monkeypatch, draws)
    options = {"order": order, "corrector_order": order, "tau": 0.7, "quantity": "eps"}
    plan = SOLVERS["adams"](DDPM, times, lower_order_final=True, **options)
    assert_equal(ours(plan, x, draws), theirs(scheduler, x))


def give_noise(monkeypatch, draws):
    source = iter(draws)
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_sasolver.randn_tensor", lambda *_, **__: next(source)
    )


@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis_equals_diffusers(order):
    for steps, dtype, rtol in RUNS:
        times, x = times_of(steps, FIRST), images(dtype)
        scheduler = peer(DEISMultistepScheduler, times, solver_order=order)
        plan = SOLVERS["deis"](DDPM, times, order=order, variant="logrhoAB")
        assert_equal(ours(plan, x), theirs(scheduler, x), rtol)


def test_deis_of_diffusers_is_not_a_number_at_the_clean_image():
    """Its first order is 0 * inf at sigma = 0; ours there is DDIM."""
    times, x = times_of(1), images()
    assert theirs(peer(DEISMultistepScheduler, times, solver_order=1), x).isnan().all()
    result, expected = (ours(SOLVERS[name](DDPM, times), x) for name in ("deis", "ddim"))
    torch.testing.assert_close(result, expected)


def peer_ipndm(levels, timesteps):
    scheduler = IPNDMScheduler()
    scheduler.set_timesteps(len(levels) - 1)
    scheduler.alphas = torch.tensor([level.alpha for level in levels], dtype=torch.float64)
    scheduler.betas = torch.tensor([level.sigma for level in levels], dtype=torch.float64)
    scheduler.timesteps = torch.tensor(timesteps, dtype=torch.float32)
    return scheduler


def test_ipndm_equals_diffusers():
    for steps, dtype, rtol in RUNS:
        times, x = times_of(steps), images(dtype)
        scheduler = peer_ipndm([DDPM(t) for t in times], INDICES[:steps])
        # the peer takes the network to say v and averages the eps that follows from it
        result = ours(SOLVERS["ipndm"](DDPM, times), x, prediction="v")
        assert_equal(result, theirs(scheduler, x).to(dtype), rtol)


def test_ipndm_of_diffusers_divides_by_a_clamp_at_pure_noise():
    """There v says x0 = -v, which DDIM keeps; the peer takes it to be nothing."""
    schedule, x = CosineVP(), images()
    scheduler = peer_ipndm([schedule(t) for t in (1.0, 0.5, 0.0)], [1.0, 0.5])
    level = schedule(0.5)
    peers = scheduler.step(torch.full_like(x, -0.3), scheduler.timesteps[0], x).prev_sample
    torch.testing.assert_close(peers, level.sigma * x)
    plan = SOLVERS["ipndm"](schedule, [1.0, 0.5])
    state = integrate(plan, lambda x_t, level, _: torch.full_like(x_t, 0.3), x)
    torch.testing.assert_close(state, level.alpha * 0.3 + level.sigma * x)


@pytest.mark.parametrize("steps", [4, 5, 10, 20])
def test_pndm_equals_diffusers(steps):
    scheduler = PNDMScheduler(set_alpha_to_one=True)
    scheduler.alphas_cumprod = DDPM(DDPM.t_of_index(torch.arange(1000, dtype=torch.float64))).alpha ** 2
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(steps)
    times = [*(DDPM.t_of_index(k) for k in range(0, 1000, 1000 // steps)), 0.0]
    times.sort(reverse=True)
    plan, x = SOLVERS["pndm"](DDPM, times), images()
    assert [round(DDPM.index_of_t(level.t)) for level in plan.levels[:-1]] == scheduler.timesteps.tolist()
    assert_equal(ours(plan, x), theirs(scheduler, x))


# -- closed forms --------------------------------------------------------------------------------------


def test_pndm_averages_with_adams_and_bashforths_weights():
    """(55, -59, 37, -9) / 24 of DDIM's step (PNDM eq. 9 to 13), after three Runge-Kutta steps."""
    times = np.linspace(0.9, 0.1, 7).tolist()
    plan = SOLVERS["pndm"](DDPM, times)
    s, t = DDPM(times[3]), DDPM(times[4])
    advance = plan.rows[12].advance
    step = t.sigma - t.alpha * s.sigma / s.alpha
    of_grid_points = {0: 55, 4: -59, 8: 37, 12: -9}  # rows ago: each Runge-Kutta step takes four
    expected = [step * of_grid_points.get(ago, 0) / 24 for ago in range(13)]
    np.testing.assert_allclose(advance.m, expected, rtol=1e-12)
    assert advance.y == pytest.approx(t.alpha / s.alpha)


def test_ipndm_on_uneven_steps_weighs_for_the_mean_over_the_step():
    """Exact where eps is a polynomial in t of degree order - 1: DDIM's step along its mean over [t, s]."""
    times = [0.9, 0.72, 0.65, 0.41, 0.2, 0.14]
    plan = SOLVERS["ipndm"](DDPM, times, order=4, uneven=True)
    for i, row in enumerate(plan.rows):
        s, t = DDPM(times[i]), DDPM(times[i + 1])
        for degree in range(min(i + 1, 4)):
            mean = (s.t ** (degree + 1) - t.t ** (degree + 1)) / (degree + 1) / (s.t - t.t)
            past = [time**degree for time in times[i::-1]]
            result = sum(weight * eps for weight, eps in zip(row.advance.m, past, strict=False))
            assert result == pytest.approx((t.sigma - t.alpha * s.sigma / s.alpha) * mean, rel=1e-9)


@pytest.mark.parametrize(("uneven", "order"), [(True, 2), (False, 1)])
def test_ipndm_on_uneven_steps_keeps_its_order_only_with_their_weights(uneven, order):
    case = Case("ipndm", {"order": 2, "uneven": uneven}, order, None)
    errors = []
    for n in (100, 200):
        ramp = np.arange(n + 1) / n
        ramp[1:-1:2] += 0.4 / n  # long, short, long, ...
        errors.append(error(case.plan(CosineVP(), (0.8 - 0.5 * ramp).tolist())))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_ipndm_out_of_pure_noise_is_the_limit_of_almost_pure_noise():
    """At alpha = 0 the table is on x0, at alpha = 1e-7 on eps, and it is the same method."""

    class Almost(CosineVP):
        def _alpha_sigma(self, t):
            alpha, sigma = super()._alpha_sigma(t)
            return alpha.clamp(min=1e-7), sigma

    denoiser = GaussianMixture(torch.randn(3, 2, dtype=torch.float64), 0.4)
    x = torch.randn(4, 2, dtype=torch.float64)
    times = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    plans = [SOLVERS["ipndm"](schedule, times) for schedule in (CosineVP(), Almost())]
    assert [plan.quantity for plan in plans] == ["x0", "eps"]
    exact, near = (integrate(plan, denoiser, x) for plan in plans)
    torch.testing.assert_close(exact, near, rtol=1e-5, atol=1e-6)


def test_sa_solver_beyond_two_outputs_is_adams():
    times = [1.0, 0.83, 0.6, 0.41, 0.2, 0.07]
    options = {"predictor_order": 3, "corrector_order": 4, "lower_order_final": False}
    one = SOLVERS["sa_solver"](DDPM, times, tau=0.6, interval=(0, 1), **options)
    other = SOLVERS["adams"](DDPM, times, order=3, corrector_order=4, tau=0.6)
    for a, b in list(zip(one.rows, other.rows, strict=True))[2:]:
        np.testing.assert_allclose(a.advance.m, b.advance.m, rtol=1e-12)
    np.testing.assert_allclose(one.rows[3].correct.m, other.rows[3].correct.m, rtol=1e-12)


def test_sa_solver_exchanges_noise_inside_its_interval_alone():
    times = [1.0, 0.81, 0.8, 0.5, 0.2, 0.19, 0.0]
    plan = SOLVERS["sa_solver"](DDPM, times, interval=(0.2, 0.8))
    assert [bool(row.advance.z) for row in plan.rows] == [False, False, True, True, True, False]


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "options", "message"),
    [
        ("unipc", {"order": 0}, "order of UniPC must be"),
        ("unipc", {"variant": "bh3"}, "variant of UniPC must be"),
        ("unipc", {"quantity": "v"}, "quantity of UniPC must be"),
        ("sa_solver", {"predictor_order": 5}, "predictor_order"),
        ("sa_solver", {"corrector_order": -1}, "corrector_order"),
        ("sa_solver", {"tau": -1.0}, "tau must be"),
        ("sa_solver", {"interval": (0.8, 0.2)}, "interval must be"),
        ("deis", {"order": 5}, "order of DEIS"),
        ("deis", {"variant": "AB"}, "variant of DEIS"),
        ("ipndm", {"order": 0}, "order of iPNDM"),
        ("adams", {"order": 0}, "order must be"),
        ("adams", {"corrector_order": 9}, "corrector_order must be"),
        ("adams", {"tau": -0.5}, "tau must be"),
        ("adams", {"coordinate": "x"}, "coordinate must be"),
        ("adams", {"quantity": "score"}, "quantity must be"),
        ("adams", {"quantity": "v", "tau": 1.0}, "v is for the ODE"),
        ("adams", {"quantity": "v"}, "variance-preserving"),
        ("adams", {"quantity": "eps", "tau": 1.0}, "pure noise"),
    ],
)
def test_nonsense_is_refused(solver, options, message):
    with pytest.raises(ValueError, match=message):
        SOLVERS[solver](RectifiedFlow(), [1.0, 0.7, 0.4, 0.0], **options)
