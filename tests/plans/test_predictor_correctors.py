"""Predictor-correctors, Adams methods, restarts, reversal: against diffusers, closed forms, their order."""

from __future__ import annotations

import functools
import math
from itertools import pairwise

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

from snowmelt.core import (
    CosineVP,
    DiscreteSchedule,
    LinearVP,
    RectifiedFlow,
    make_betas,
)
from snowmelt.denoisers import GaussianMixture
from snowmelt.models import DiffusionModel
from snowmelt.plans import Combination, Plan, Row, ddim, integrate
from snowmelt.plans.builder import first_order_step
from snowmelt.plans.joining import lift
from snowmelt.plans.reverse import reverse
from snowmelt.plans.solvers.adams import adams
from snowmelt.plans.solvers.deis import deis
from snowmelt.plans.solvers.ipndm import ipndm
from snowmelt.plans.solvers.pndm import pndm
from snowmelt.plans.solvers.restart import restart
from snowmelt.plans.solvers.sa_solver import sa_solver
from snowmelt.plans.solvers.unipc import unipc
from snowmelt.plans.unrolling import plan_on_eps

DDPM = DiscreteSchedule(make_betas())
VARIANTS = {
    "unipc-1": functools.partial(unipc, order=1),
    "unipc-2": unipc,
    "unipc-3": functools.partial(unipc, order=3, variant="bh1"),
    "unipc-3-eps": functools.partial(unipc, order=3, quantity="eps"),
    "unip-3": functools.partial(unipc, order=3, corrector=False),
    "sa-solver-ode": functools.partial(sa_solver, tau=0.0),
    "sa-solver": sa_solver,
    "deis-t": deis,
    "deis-rho": functools.partial(deis, variant="rhoAB", order=4),
    "ipndm": ipndm,
    "ipndm-uneven": functools.partial(ipndm, uneven=True),
    "pndm": pndm,
    "adams": adams,
    "adams-pc": functools.partial(adams, order=3, corrector_order=4, coordinate="u"),
    "adams-eps": functools.partial(adams, order=2, corrector_order=3, quantity="eps"),
    "restart": restart,
}


def run(plan: Plan, denoiser, x, draws=()):
    return integrate(plan, denoiser, x, noise=iter(draws).__next__)


# -- any grid, any schedule, both ends -----------------------------------------------------------------


@pytest.mark.parametrize("solver", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_tables_are_finite_and_reach_a_constant_image(solver, steps, schedule):
    plan = solver(schedule, np.linspace(1, 0, steps + 1).tolist())
    numbers = [v for row in plan.rows for c in row[1:] for v in (c.x, c.y, c.z, *c.m)]
    assert all(map(math.isfinite, numbers))
    if solver is pndm and 0 < schedule(1.0).alpha < 1e-4:
        return  # finite, but each of its four stages magnifies rounding by alpha_t / alpha_s
    x = plan.prior_std * torch.randn(1, 3, dtype=torch.float64)
    draws = torch.randn(32, 1, 3, dtype=torch.float64)
    result = run(plan, lambda x_t, level, _: torch.full_like(x_t, 0.7), x, draws)
    torch.testing.assert_close(result, torch.full_like(x, 0.7), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("solver", VARIANTS.values(), ids=VARIANTS)
def test_one_step_is_ddim_or_the_posterior(solver):
    for schedule in (DDPM, CosineVP()):
        denoiser = GaussianMixture(torch.randn(3, 2, dtype=torch.float64), 0.4)
        x = torch.randn(4, 2, dtype=torch.float64)
        expected = integrate(ddim(schedule, [1.0, 0.0]), denoiser, x)
        result = integrate(solver(schedule, [1.0, 0.0]), denoiser, x)
        torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (functools.partial(unipc, order=0), "order of UniPC must be"),
        (functools.partial(unipc, variant="bh3"), "variant of UniPC must be"),
        (functools.partial(unipc, quantity="v"), "quantity of UniPC must be"),
        (functools.partial(sa_solver, predictor_order=5), "predictor_order"),
        (functools.partial(sa_solver, corrector_order=-1), "corrector_order"),
        (functools.partial(sa_solver, tau=-1.0), "tau must be"),
        (functools.partial(sa_solver, interval=(0.8, 0.2)), "interval must be"),
        (functools.partial(deis, order=5), "order of DEIS"),
        (functools.partial(deis, variant="AB"), "variant of DEIS"),
        (functools.partial(ipndm, order=0), "order of iPNDM"),
        (functools.partial(adams, order=0), "order must be"),
        (functools.partial(adams, corrector_order=9), "corrector_order must be"),
        (functools.partial(adams, coordinate="x"), "coordinate must be"),
        (functools.partial(adams, quantity="score"), "quantity must be"),
        (functools.partial(adams, quantity="v", tau=1.0), "v is for the ODE"),
        (functools.partial(adams, quantity="v"), "variance-preserving"),
        (functools.partial(adams, quantity="eps", tau=1.0), "pure noise"),
        (functools.partial(restart, repeats=-1), "repeats must be"),
        (functools.partial(restart, interval=(0.5, 0.1)), "interval must be"),
        (functools.partial(restart, inner="nothing"), "unknown solver 'nothing'"),
        (functools.partial(reverse, solver="ddpm"), "only a deterministic solver"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(RectifiedFlow(), [1.0, 0.7, 0.4, 0.0])


# -- order ---------------------------------------------------------------------------------------------

ORDERS = {
    "unip-1": (functools.partial(unipc, order=1, corrector=False), 1),
    "unip-2": (functools.partial(unipc, order=2, corrector=False, lower_order_final=False), 2),
    "unip-3": (functools.partial(unipc, order=3, corrector=False, lower_order_final=False), 3),
    "unipc-1": (functools.partial(unipc, order=1, lower_order_final=False), 2),
    "unipc-2-bh1": (functools.partial(unipc, order=2, variant="bh1", lower_order_final=False), 3),
    "unipc-2-eps": (functools.partial(unipc, order=2, quantity="eps", lower_order_final=False), 3),
    "sa-2": (functools.partial(sa_solver, tau=0.0, corrector_order=0, lower_order_final=False), 2),
    "sa-3": (
        functools.partial(sa_solver, tau=0.0, predictor_order=3, corrector_order=0, lower_order_final=False),
        3,
    ),
    "deis-t-2": (functools.partial(deis, order=2, lower_order_final=False), 2),
    "deis-t-3": (functools.partial(deis, order=3, lower_order_final=False), 3),
    "deis-rho-3": (functools.partial(deis, order=3, variant="rhoAB", lower_order_final=False), 3),
    "ipndm-1": (functools.partial(ipndm, order=1), 1),
    "ipndm-2": (functools.partial(ipndm, order=2), 2),
    "ipndm-4": (ipndm, 2),
    "pndm": (pndm, 2),
    "adams-2": (functools.partial(adams, order=2), 2),
    "adams-3-u": (functools.partial(adams, order=3, coordinate="u"), 3),
    "adams-2-3": (functools.partial(adams, order=2, corrector_order=3), 3),
    "adams-2-v": (functools.partial(adams, order=2, quantity="v", coordinate="angle"), 2),
    "adams-2-3-eps": (functools.partial(adams, order=2, corrector_order=3, quantity="eps"), 3),
}


MEAN, STD = 1.0, 1.5


def error_on_a_gaussian(solver, ramp):
    """How far from the flow, x_t = alpha_t mu + std_t/std_s (x_s - alpha_s mu), on times from 0.8 to 0.3."""
    s, t = CosineVP()(0.8), CosineVP()(0.3)
    growth = math.hypot(t.alpha * STD, t.sigma) / math.hypot(s.alpha * STD, s.sigma)
    x = torch.tensor([[1.3], [-2.0]], dtype=torch.float64)
    truth = t.alpha * MEAN + growth * (x - s.alpha * MEAN)
    plan = solver(CosineVP(), (0.8 - 0.5 * ramp).tolist())
    denoiser = GaussianMixture(torch.full((1, 1), MEAN, dtype=torch.float64), STD)
    return (integrate(plan, denoiser, x) - truth).abs().max().item(), plan.order


@pytest.mark.parametrize(("solver", "order"), ORDERS.values(), ids=ORDERS)
def test_it_converges_at_its_order(solver, order):
    """The first steps have lower order: above order 2 the time points crowd there, so that it is unseen."""
    power = 1 if order < 3 else 2
    (coarse, claim), (fine, _) = (
        error_on_a_gaussian(solver, np.linspace(0, 1, n + 1) ** power) for n in (100, 200)
    )
    assert claim == order
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("uneven", "order"), [(True, 2), (False, 1)])
def test_ipndm_on_uneven_steps_keeps_its_order_only_with_their_weights(uneven, order):
    solver = functools.partial(ipndm, order=2, uneven=uneven)
    errors = []
    for n in (100, 200):
        ramp = np.arange(n + 1) / n
        ramp[1:-1:2] += 0.4 / n  # long, short, long, ...
        errors.append(error_on_a_gaussian(solver, ramp)[0])
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


# -- one method in two coats ---------------------------------------------------------------------------


def test_sa_solver_beyond_two_outputs_is_adams():
    times = [1.0, 0.83, 0.6, 0.41, 0.2, 0.07]
    one = sa_solver(
        DDPM, times, predictor_order=3, corrector_order=4, tau=0.6, interval=(0, 1), lower_order_final=False
    )
    other = adams(DDPM, times, order=3, corrector_order=4, tau=0.6)
    for a, b in list(zip(one.rows, other.rows, strict=True))[2:]:
        np.testing.assert_allclose(a.advance.m, b.advance.m, rtol=1e-12)
    np.testing.assert_allclose(one.rows[3].correct.m, other.rows[3].correct.m, rtol=1e-12)


@pytest.mark.parametrize(("variant", "coordinate"), [("tAB", "t"), ("rhoAB", "sigma"), ("logrhoAB", "lam")])
def test_deis_is_adams_on_eps(variant, coordinate):
    times = [1.0, 0.83, 0.6, 0.41, 0.2, 0.0]
    one = deis(DDPM, times, variant=variant)
    assert one == adams(DDPM, times, quantity="eps", coordinate=coordinate, lower_order_final=True)


def test_unrolling_out_of_pure_noise_changes_no_state():
    # alpha = 0 against alpha = 1e-9: the same method, once on x0 and once on eps
    class Almost(CosineVP):
        def _alpha_sigma(self, t):
            alpha, sigma = super()._alpha_sigma(t)
            return alpha.clamp(min=1e-7), sigma

    denoiser = GaussianMixture(torch.randn(3, 2, dtype=torch.float64), 0.4)
    x = torch.randn(4, 2, dtype=torch.float64)
    times = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    for solver in (pndm, ipndm):
        exact, near = solver(CosineVP(), times), solver(Almost(), times)
        assert (exact.quantity, near.quantity) == ("x0", "eps")
        if solver is ipndm:
            torch.testing.assert_close(
                integrate(exact, denoiser, x), integrate(near, denoiser, x), rtol=1e-5, atol=1e-6
            )


def test_first_order_on_eps_unrolled_is_ddim():
    levels = [CosineVP()(t) for t in (1.0, 0.7, 0.3, 0.0)]
    rows = [Row(s, first_order_step(s, t, quantity="eps" if s.alpha else "x0")) for s, t in pairwise(levels)]
    denoiser = GaussianMixture(torch.randn(3, 2, dtype=torch.float64), 0.4)
    x = torch.randn(4, 2, dtype=torch.float64)
    expected = integrate(ddim(CosineVP(), [1.0, 0.7, 0.3, 0.0]), denoiser, x)
    result = integrate(plan_on_eps(rows, levels[-1], 1, ""), denoiser, x)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)


# -- diffusers -----------------------------------------------------------------------------------------


def network(x, k):
    return torch.sin(3 * x + 0.001 * k) * 0.5 + 0.1 * x


def ours(plan, x, draws=(), prediction="eps"):
    denoiser = DiffusionModel(
        lambda x, time, _: network(x, time.view(-1, 1, 1, 1)), DDPM, prediction, image_shape=x.shape[1:]
    )
    return run(plan, denoiser, x, draws)


INDEX = [999, 870, 742, 640, 511, 400, 287, 190, 101, 20]


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
    return [*(DDPM.t_of_index(k) for k in INDEX[:steps]), end]


def assert_equal(result, expected, rtol):
    """Equal in norm: near pure noise a single number may be far smaller than what it is the difference of."""
    assert result.isfinite().all()
    assert (result - expected).norm() <= rtol * expected.norm()


DTYPES = pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("quantity", ["x0", "eps"])
@pytest.mark.parametrize("corrector", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@DTYPES
def test_unipc_equals_diffusers(variant, order, quantity, corrector, steps, dtype, rtol):
    times = times_of(steps)
    if (
        quantity == "eps" or variant == "bh1"
    ):  # sigma_t e^h and sigma_t h are 0 * inf to the peer at sigma = 0
        times[-1] = DDPM.t_of_index(0)
    scheduler = peer(
        UniPCMultistepScheduler,
        times,
        solver_order=order,
        solver_type=variant,
        predict_x0=quantity == "x0",
        disable_corrector=[] if corrector else list(range(steps)),
    )
    x = torch.randn(2, 1, 4, 4, dtype=dtype)
    plan = unipc(DDPM, times, order=order, variant=variant, corrector=corrector, quantity=quantity)
    assert_equal(ours(plan, x), theirs(scheduler, x), rtol)


@pytest.mark.parametrize("order", [2, 3])
def test_unipc_without_lower_order_at_the_end_equals_diffusers(order):
    times = times_of(10, DDPM.t_of_index(0))
    scheduler = peer(UniPCMultistepScheduler, times, solver_order=order, lower_order_final=False)
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    plan = unipc(DDPM, times, order=order, lower_order_final=False)
    assert_equal(ours(plan, x), theirs(scheduler, x), 1e-9)


@pytest.mark.parametrize("predictor_order", [1, 2, 3])
@pytest.mark.parametrize("corrector_order", [1, 2, 3, 4])
@pytest.mark.parametrize("lower_order_final", [True, False])
@DTYPES
def test_sa_solver_equals_diffusers(
    predictor_order, corrector_order, lower_order_final, dtype, rtol, monkeypatch
):
    times = times_of(10, DDPM.t_of_index(0))  # at sigma = 0 the peer's integral is inf * 0
    scheduler = peer(
        SASolverScheduler,
        times,
        predictor_order=predictor_order,
        corrector_order=corrector_order,
        tau_func=lambda k: torch.tensor(0.7 if 200 <= k <= 800 else 0.0, dtype=torch.float64),
        lower_order_final=lower_order_final,
    )
    x = torch.randn(2, 1, 4, 4, dtype=dtype)
    draws = torch.randn(10, 2, 1, 4, 4, dtype=dtype)
    source = iter(draws)
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_sasolver.randn_tensor", lambda *_, **__: next(source)
    )
    plan = sa_solver(
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
    assert_equal(ours(plan, x, used), theirs(scheduler, x), rtol)


@pytest.mark.parametrize("orders", [(1, 1), (2, 2), (3, 3)])
def test_adams_on_eps_equals_sa_solver_on_noise(orders, monkeypatch):
    times = times_of(10, DDPM.t_of_index(0))
    scheduler = peer(
        SASolverScheduler,
        times,
        predictor_order=orders[0],
        corrector_order=orders[1],
        algorithm_type="noise_prediction",
        tau_func=lambda k: torch.tensor(0.7, dtype=torch.float64),
    )
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    draws = torch.randn(10, 2, 1, 4, 4, dtype=torch.float64)
    source = iter(draws)
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_sasolver.randn_tensor", lambda *_, **__: next(source)
    )
    plan = adams(
        DDPM,
        times,
        order=orders[0],
        corrector_order=orders[1],
        tau=0.7,
        quantity="eps",
        lower_order_final=True,
    )
    assert_equal(ours(plan, x, draws), theirs(scheduler, x), 1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@DTYPES
def test_deis_equals_diffusers(order, steps, dtype, rtol):
    times = times_of(steps)
    times[-1] = DDPM.t_of_index(0)  # the peer's first order is 0 * inf at sigma = 0
    scheduler = peer(DEISMultistepScheduler, times, solver_order=order)
    x = torch.randn(2, 1, 4, 4, dtype=dtype)
    plan = deis(DDPM, times, order=order, variant="logrhoAB")
    assert_equal(ours(plan, x), theirs(scheduler, x), rtol)


def test_deis_of_diffusers_is_not_a_number_at_the_clean_image():
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    times = times_of(1)
    assert theirs(peer(DEISMultistepScheduler, times, solver_order=1), x).isnan().all()
    torch.testing.assert_close(ours(deis(DDPM, times, order=1), x), ours(ddim(DDPM, times), x))


def peer_ipndm(times):
    scheduler = IPNDMScheduler()
    scheduler.set_timesteps(len(times) - 1)
    levels = [DDPM(t) for t in times]
    scheduler.alphas = torch.tensor([level.alpha for level in levels], dtype=torch.float64)
    scheduler.betas = torch.tensor([level.sigma for level in levels], dtype=torch.float64)
    scheduler.timesteps = torch.tensor([DDPM.index_of_t(t) for t in times[:-1]], dtype=torch.float32)
    return scheduler


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@DTYPES
def test_ipndm_equals_diffusers(steps, dtype, rtol):
    times = times_of(steps)
    x = torch.randn(2, 1, 4, 4, dtype=dtype)
    # the peer takes the network to say v and averages the eps that follows from it
    result = ours(ipndm(DDPM, times), x, prediction="v")
    assert_equal(result, theirs(peer_ipndm(times), x).to(dtype), rtol)


def test_ipndm_of_diffusers_divides_by_a_clamp_at_pure_noise():
    """There v says x0 = -v, which DDIM keeps; the peer takes it to be nothing."""
    schedule = CosineVP()
    scheduler = IPNDMScheduler()
    scheduler.set_timesteps(2)
    scheduler.alphas, scheduler.betas = (
        torch.tensor([getattr(schedule(t), name) for t in (1.0, 0.5, 0.0)], dtype=torch.float64)
        for name in ("alpha", "sigma")
    )
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    level = schedule(0.5)
    peers = scheduler.step(torch.full_like(x, -0.3), scheduler.timesteps[0], x).prev_sample
    torch.testing.assert_close(peers, level.sigma * x)
    state = run(ipndm(schedule, [1.0, 0.5]), lambda x_t, level, _: torch.full_like(x_t, 0.3), x)
    torch.testing.assert_close(state, level.alpha * 0.3 + level.sigma * x)


@pytest.mark.parametrize("steps", [4, 5, 10, 20])
@DTYPES
def test_pndm_equals_diffusers(steps, dtype, rtol):
    scheduler = PNDMScheduler(set_alpha_to_one=True)
    scheduler.alphas_cumprod = DDPM(DDPM.t_of_index(torch.arange(1000, dtype=torch.float64))).alpha ** 2
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(steps)
    x = torch.randn(2, 1, 4, 4, dtype=dtype)
    times = [*(DDPM.t_of_index(k) for k in range(0, 1000, 1000 // steps)), 0.0]
    times.sort(reverse=True)
    plan = pndm(DDPM, times)
    assert [round(DDPM.index_of_t(level.t)) for level in plan.levels[:-1]] == scheduler.timesteps.tolist()
    assert_equal(ours(plan, x), theirs(scheduler, x).to(dtype), rtol)


# -- restart -------------------------------------------------------------------------------------------


def test_a_lift_leads_to_the_marginal_of_the_upper_level(schedule):
    s, t = schedule(0.3), schedule(0.8)
    step = lift(s, t)
    assert step.y * s.alpha == pytest.approx(t.alpha)
    assert (step.y * s.sigma) ** 2 + step.z**2 == pytest.approx(t.sigma**2)


@pytest.mark.parametrize("inner", [ddim, unipc, pndm])
def test_restart_is_its_inner_solver_piece_by_piece(inner):
    times, schedule = [0.9, 0.7, 0.5, 0.3, 0.1, 0.0], LinearVP()
    plan = restart(schedule, times, inner=inner, interval=(0.28, 0.72), repeats=2)
    denoiser = GaussianMixture(torch.randn(3, 2, dtype=torch.float64), 0.4)
    x = torch.randn(4, 2, dtype=torch.float64)
    draws = torch.randn(2, 4, 2, dtype=torch.float64)
    up = lift(schedule(0.3), schedule(0.7))
    state = integrate(inner(schedule, times[:4]), denoiser, x)
    for z in draws:
        state = integrate(inner(schedule, times[1:4]), denoiser, up.y * state + up.z * z)
    state = integrate(inner(schedule, times[3:]), denoiser, state)
    torch.testing.assert_close(run(plan, denoiser, x, draws), state, rtol=1e-9, atol=1e-9)


def test_restart_contracts_the_error_of_a_wrong_start():
    # A state far from the marginal: one descent keeps the error, restarts shrink it
    denoiser = GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), 0.5)
    x = torch.full((1000, 1), 3.0, dtype=torch.float64)
    times = np.linspace(1, 0, 51).tolist()
    means = [
        integrate(restart(LinearVP(), times, interval=(0.1, 0.6), repeats=k), denoiser, x).mean().item()
        for k in (0, 1)
    ]
    assert abs(means[1]) < 0.2 * abs(means[0])


def test_restart_without_a_repeat_is_its_inner_solver():
    times = [1.0, 0.5, 0.2, 0.0]
    assert restart(DDPM, times, repeats=0) == ddim(DDPM, times)
    assert restart(DDPM, times, interval=(0.4, 0.45)) == ddim(DDPM, times)


# -- reverse -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [ddim, unipc, deis, ipndm, pndm, adams])
@pytest.mark.parametrize("steps", [2, 3, 9])
def test_reversed_tables_are_finite_at_both_ends(solver, steps, schedule):
    plan = reverse(schedule, np.linspace(1, 0, steps + 1).tolist(), solver)
    numbers = [v for row in plan.rows for c in row[1:] for v in (c.x, c.y, c.z, *c.m)]
    assert all(map(math.isfinite, numbers))
    assert plan.end == schedule(1.0)
    assert all(level.sigma > 0 for level in plan.levels)


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (ddim, 1),
        (functools.partial(adams, order=2, coordinate="u"), 2),
        (functools.partial(adams, order=2, quantity="eps"), 2),
    ],
)
def test_there_and_back_errs_by_the_order(solver, order):
    schedule = CosineVP()
    denoiser = GaussianMixture(torch.tensor([[0.5], [-0.5]], dtype=torch.float64), 0.5)
    x0 = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]
    errors = []
    for steps in (40, 80, 160):
        times = np.linspace(0.9, 0.0, steps + 1).tolist()
        noise = integrate(reverse(schedule, times, solver), denoiser, x0)
        errors.append((integrate(solver(schedule, times), denoiser, noise) - x0).abs().max().item())
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


def test_reversal_from_a_noisy_state_needs_no_step_of_its_own():
    plan = reverse(DDPM, [0.9, 0.5, 0.1])
    assert plan == ddim(DDPM, [0.1, 0.5, 0.9])
    with pytest.raises(ValueError, match="at least two times"):
        reverse(DDPM, [0.5])
    with pytest.raises(ValueError, match="no time between them"):
        reverse(RectifiedFlow(), [1.0, 0.0])


def test_a_base_state_is_kept_by_predictor_corrector_rows():
    plan = unipc(DDPM, [0.9, 0.6, 0.3, 0.0])
    assert plan.rows[0].correct == Combination(y=1.0)
    assert all(row.advance.y == 0.0 for row in plan.rows)
