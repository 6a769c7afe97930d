"""DPM-Solver and DPM-Solver++: beside two peers, beside closed forms, and at both ends."""

from __future__ import annotations

import math
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, DPMSolverSDEScheduler, DPMSolverSinglestepScheduler
from scipy.integrate import solve_ivp

from snowmelt.core import CosineVP, DiscreteSchedule, Level, LinearVP, RectifiedFlow, make_betas
from snowmelt.denoisers import GaussianMixture
from snowmelt.plans import SOLVERS, integrate
from snowmelt.plans.builder import multistep_weights
from snowmelt.plans.solvers.dpm_solver import dpm_solver
from snowmelt.plans.solvers.dpmpp_2m import dpmpp_2m
from snowmelt.plans.solvers.dpmpp_2s import dpmpp_2s
from snowmelt.plans.solvers.dpmpp_3m import dpmpp_3m
from snowmelt.plans.solvers.dpmpp_sde import dpmpp_sde

dpmpp_2m_sde, dpmpp_3m_sde = SOLVERS["dpmpp_2m_sde"], SOLVERS["dpmpp_3m_sde"]
DDPM = DiscreteSchedule(make_betas())
TIMES = [0.95, 0.85, 0.75, 0.6, 0.45, 0.3, 0.0]
PRECISIONS = [(torch.float32, 1e-4), (torch.float64, 1e-9)]


def oracle(dtype):
    generator = torch.Generator().manual_seed(7)
    means = torch.randn(3, 6, dtype=torch.float64, generator=generator)
    return GaussianMixture(means.to(dtype), 0.4)


def run(plan, x, draws=()):
    return integrate(plan, oracle(x.dtype), x, noise=iter(draws).__next__)


# -- k-diffusion ---------------------------------------------------------------------------------------


def sigma_hat(level):
    return level.sigma / level.alpha


def denoised(x_hat, sigma):
    """The oracle as k-diffusion calls a model: on x / alpha, with sigma / alpha for each image."""
    return oracle(x_hat.dtype)(x_hat, Level(math.nan, 1.0, float(sigma.flatten()[0])))


def path_through(plan, draws):
    """A noise sampler whose Brownian path has `draws` as increments between the plan's noise levels."""
    points = [sigma_hat(level) for level in plan.levels]
    heights = [torch.zeros_like(draws[0])]
    for draw, (a, b) in zip(draws, pairwise(points), strict=True):
        heights.append(heights[-1] + math.sqrt(a - b) * draw)

    def sample(a, b):
        i, j = (int(np.abs(np.array(points) - float(n)).argmin()) for n in (a, b))
        return (heights[j] - heights[i]) / math.sqrt(points[i] - points[j])

    return sample


OF_K_DIFFUSION = {
    "2s": (dpmpp_2s, "sample_dpmpp_2s_ancestral", {"eta": 0.0}),
    "2s-eta-0.6": (partial(dpmpp_2s, eta=0.6), "sample_dpmpp_2s_ancestral", {"eta": 0.6}),
    "2s-ancestral": (partial(dpmpp_2s, eta=1.0), "sample_dpmpp_2s_ancestral", {}),
    "2m": (dpmpp_2m, "sample_dpmpp_2m", {}),
    "sde": (partial(dpmpp_sde, brownian=False), "sample_dpmpp_sde", {}),
    "sde-eta-0": (partial(dpmpp_sde, eta=0.0), "sample_dpmpp_sde", {"eta": 0.0}),
    "sde-r": (partial(dpmpp_sde, eta=0.7, r=0.3, brownian=False), "sample_dpmpp_sde", {"eta": 0.7, "r": 0.3}),
    "2m_sde": (dpmpp_2m_sde, "sample_dpmpp_2m_sde", {}),
    "2m_sde-heun": (
        partial(dpmpp_2m_sde, eta=0.6, solver_type="heun"),
        "sample_dpmpp_2m_sde",
        {"eta": 0.6, "solver_type": "heun"},
    ),
    "3m": (dpmpp_3m, "sample_dpmpp_3m_sde", {"eta": 0.0}),
    "3m_sde": (dpmpp_3m_sde, "sample_dpmpp_3m_sde", {}),
    "3m_sde-eta-1.5": (partial(dpmpp_3m_sde, eta=1.5), "sample_dpmpp_3m_sde", {"eta": 1.5}),
}


@pytest.mark.parametrize("name", OF_K_DIFFUSION)
@pytest.mark.parametrize(
    ("dtype", "rtol", "steps"),
    [(torch.float32, 1e-4, 6), *((torch.float64, 1e-9, steps) for steps in (1, 2, 3, 6))],
)
def test_equals_k_diffusion(name, dtype, rtol, steps, schedule, k_diffusion):
    solver, sampler, options = OF_K_DIFFUSION[name]
    # Alone, the peer's multistep samplers cannot take their last step
    levels = [schedule(t) for t in (TIMES[-steps - 1 :] if steps > 1 else TIMES[:2])]
    x = math.hypot(*levels[0][1:]) * torch.randn(4, 6, dtype=dtype)
    draws = torch.randn(2 * steps, 4, 6, dtype=dtype)
    if sampler != "sample_dpmpp_2m":
        source = iter(draws)
        options = {**options, "noise_sampler": lambda *_: next(source)}
    sigmas = torch.tensor([sigma_hat(level) for level in levels], dtype=dtype)
    peer = getattr(k_diffusion, sampler)(denoised, x / levels[0].alpha, sigmas, disable=True, **options)
    result = run(solver(schedule, [level.t for level in levels]), x, draws)
    torch.testing.assert_close(result, levels[-1].alpha * peer, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("dtype", "rtol"), PRECISIONS)
@pytest.mark.parametrize("options", [{}, {"eta": 0.5}, {"r": 0.3}])
def test_dpmpp_sde_on_a_brownian_path_equals_k_diffusion(dtype, rtol, options, schedule, k_diffusion):
    plan = dpmpp_sde(schedule, TIMES, **options)
    x = plan.prior_std * torch.randn(4, 6, dtype=dtype)
    draws = torch.randn(plan.nfe, 4, 6, dtype=dtype)
    sigmas = torch.tensor([sigma_hat(schedule(t)) for t in TIMES], dtype=dtype)
    peer = k_diffusion.sample_dpmpp_sde(
        denoised,
        x / plan.levels[0].alpha,
        sigmas,
        disable=True,
        noise_sampler=path_through(plan, draws),
        **options,
    )
    torch.testing.assert_close(run(plan, x, draws), peer, rtol=rtol, atol=rtol)


# -- diffusers -----------------------------------------------------------------------------------------

INDICES = [999, 940, 860, 700, 500, 320, 180, 90, 30]


class _InDouble:
    """torch for a peer that casts its state to float32, and shall not."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@pytest.fixture
def in_double(monkeypatch):
    monkeypatch.setattr("diffusers.schedulers.scheduling_dpmsolver_multistep.torch", _InDouble())


def on_levels(scheduler, levels):
    """A peer that takes its steps through `levels`."""
    scheduler.set_timesteps(timesteps=list(range(999, 999 - len(levels) + 1, -1)))
    scheduler.sigmas = torch.tensor([sigma_hat(level) for level in levels], dtype=torch.float64)
    return scheduler


def run_diffusers(scheduler, levels, x, draws=None):
    denoiser, state = oracle(x.dtype), x
    for i, (k, level) in enumerate(zip(scheduler.timesteps, levels, strict=False)):
        noise = {} if draws is None else {"variance_noise": draws[i]}
        state = scheduler.step(denoiser(state, level), k, state, **noise).prev_sample.to(x.dtype)
    return state


def start(steps, end):
    """Times from an index on, to the first index or to the clean image, and a state."""
    times = [
        *(DDPM.t_of_index(k) for k in INDICES[-steps:]),
        {"sigma_min": DDPM.t_of_index(0), "zero": 0.0}[end],
    ]
    return times, [DDPM(t) for t in times], torch.randn(4, 6, dtype=torch.float64)


@pytest.mark.usefixtures("in_double")
@pytest.mark.filterwarnings("ignore:.*algorithm_type:FutureWarning")
@pytest.mark.parametrize("steps", [1, 2, 3, 9])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
@pytest.mark.parametrize("lower_order_final", [False, True])
def test_dpm_solver_equals_diffusers(steps, order, solver_type, lower_order_final):
    options = {"solver_type": solver_type, "lower_order_final": lower_order_final}
    times, levels, x = start(steps, "sigma_min")
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver",
        prediction_type="sample",
        solver_order=order,
        final_sigmas_type="sigma_min",
        **options,
    )
    peer = run_diffusers(on_levels(scheduler, levels), levels, x)
    result = run(dpm_solver(DDPM, times, order=order, **options), x)
    torch.testing.assert_close(result, peer, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*algorithm_type:FutureWarning")
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
@pytest.mark.parametrize(("steps", "lower_order_final"), [(6, False), (7, True), (6, True)])
@pytest.mark.parametrize(("dtype", "rtol"), PRECISIONS)
def test_dpm_solver_singlestep_equals_diffusers(order, solver_type, steps, lower_order_final, dtype, rtol):
    options = {"solver_type": solver_type, "lower_order_final": lower_order_final}
    times, levels, x = start(steps, "sigma_min")
    scheduler = DPMSolverSinglestepScheduler(
        algorithm_type="dpmsolver",
        prediction_type="sample",
        solver_order=order,
        final_sigmas_type="sigma_min",
        **options,
    )
    peer = run_diffusers(on_levels(scheduler, levels), levels, x.to(dtype))
    result = run(dpm_solver(DDPM, times, order=order, singlestep=True, **options), x.to(dtype))
    torch.testing.assert_close(result, peer, rtol=rtol, atol=rtol)


MULTISTEP = {
    "2m": (dpmpp_2m, {"solver_order": 2}),
    "2m-heun": (partial(dpmpp_2m, solver_type="heun"), {"solver_order": 2, "solver_type": "heun"}),
    "3m": (dpmpp_3m, {"solver_order": 3, "solver_type": "heun"}),
    "2m_sde": (dpmpp_2m_sde, {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"}),
    "2m_sde-heun": (
        partial(dpmpp_2m_sde, solver_type="heun"),
        {"solver_order": 2, "solver_type": "heun", "algorithm_type": "sde-dpmsolver++"},
    ),
}


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("name", MULTISTEP)
@pytest.mark.parametrize("steps", [1, 2, 3, 9])
@pytest.mark.parametrize("end", ["zero", "sigma_min"])
@pytest.mark.parametrize("final", ["lower_order_final", "euler_at_final", None])
def test_dpmpp_equals_diffusers(name, steps, end, final):
    solver, options = MULTISTEP[name]
    if final == "euler_at_final" and options["solver_order"] == 3:
        return  # the last step alone in first order is the same as ours for order 2 only
    peer_final = {
        "lower_order_final": final == "lower_order_final",
        "euler_at_final": final == "euler_at_final",
    }
    times, levels, x = start(steps, end)
    draws = torch.randn(steps, 4, 6, dtype=torch.float64)
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="sample", final_sigmas_type=end, **options, **peer_final
    )
    peer = run_diffusers(on_levels(scheduler, levels), levels, x, draws)
    result = run(solver(DDPM, times, lower_order_final=final is not None), x, draws)
    torch.testing.assert_close(result, peer, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MULTISTEP)
def test_dpmpp_equals_diffusers_as_it_comes(name):
    """In float32, with nothing of the peer's replaced but where it steps."""
    solver, options = MULTISTEP[name]
    times, levels, x = start(9, "zero")
    x, draws = x.float(), torch.randn(9, 4, 6)
    scheduler = DPMSolverMultistepScheduler(prediction_type="sample", **options)
    scheduler.set_timesteps(timesteps=INDICES)
    peer = run_diffusers(scheduler, levels, x, draws)
    result = run(solver(DDPM, times, lower_order_final=True), x, draws)
    torch.testing.assert_close(result, peer, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "rtol"), PRECISIONS)
@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_dpmpp_2s_equals_diffusers(steps, dtype, rtol):
    times, _, x = start(steps, "zero")
    plan = dpmpp_2s(DDPM, times)
    scheduler = DPMSolverSinglestepScheduler(prediction_type="sample", solver_order=2, lower_order_final=True)
    peer = run_diffusers(on_levels(scheduler, plan.levels), plan.levels, x.to(dtype))
    torch.testing.assert_close(run(plan, x.to(dtype)), peer, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("dtype", "rtol"), PRECISIONS)
@pytest.mark.parametrize("steps", [2, 3, 9])
def test_dpmpp_sde_equals_diffusers(steps, dtype, rtol):
    times, levels, x = start(steps, "zero")
    plan = dpmpp_sde(DDPM, times)
    draws = torch.randn(plan.nfe, 4, 6, dtype=dtype)
    scheduler = DPMSolverSDEScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    twice = [levels[0], *(level for level in levels[1:-1] for _ in range(2)), levels[-1]]
    scheduler.sigmas = torch.tensor([sigma_hat(level) for level in twice], dtype=torch.float64)
    scheduler.noise_sampler = path_through(plan, draws)
    state = x.to(dtype) / levels[0].alpha
    for k, level in zip(scheduler.timesteps, plan.levels, strict=False):
        sigma = torch.tensor(sigma_hat(level), dtype=torch.float64)
        eps = (state - denoised(state, sigma)) / sigma
        state = scheduler.step(eps, k, state).prev_sample.to(dtype)
    torch.testing.assert_close(run(plan, x.to(dtype), draws), state, rtol=rtol, atol=rtol)


# -- where the peers err -------------------------------------------------------------------------------


def parabola(levels, tau):
    """The image lam^2 at three levels, and what the exact step makes of it: an integral in closed form."""
    *_, s, t = levels
    c, h = 1 + tau**2, t.lam - s.lam
    upper, lower = (math.exp(c * u) * ((t.lam + u) ** 2 - 2 * (t.lam + u) / c + 2 / c**2) for u in (0.0, -h))
    return [level.lam**2 for level in levels[-2::-1]], t.alpha * (upper - lower)


@pytest.mark.parametrize("solver", [dpmpp_3m, dpmpp_3m_sde])
def test_the_published_curvature_is_half_of_the_integrals(solver):
    levels = [DDPM(t) for t in (0.8, 0.7, 0.55, 0.4)]
    times = [level.t for level in levels]
    outputs, exact = parabola(levels, tau=float(solver is dpmpp_3m_sde))

    def last(**options):
        return float(np.dot(solver(DDPM, times, **options).rows[-1].advance.m, outputs))

    assert last(as_published=False) == pytest.approx(exact, rel=1e-12)
    assert abs(last() - exact) > 1e-3 * abs(exact)
    # Without any curvature the error would be twice as large
    nodes = [level.lam for level in levels[2::-1]]
    flat = multistep_weights(*levels[2:], nodes, float(solver is dpmpp_3m_sde), curvature=0.0)
    assert np.dot(flat, outputs) - exact == pytest.approx(2 * (last() - exact), rel=1e-9)


def test_diffusers_third_order_sde_step_has_its_curvature_wrong():
    """Its weight is the published one less 1, which no step is short enough to make small; ours converges."""
    errors = {}
    for gap in (0.02, 0.01):
        levels = [DDPM(0.5 + gap * i) for i in (3, 2, 1, 0)]
        outputs, exact = parabola(levels, tau=1.0)
        scheduler = on_levels(
            DPMSolverMultistepScheduler(solver_order=3, algorithm_type="sde-dpmsolver++"), levels
        )
        scheduler._step_index = 2
        history = [torch.tensor([output], dtype=torch.float64) for output in outputs[::-1]]
        nothing = torch.zeros(1, dtype=torch.float64)
        peer = scheduler.multistep_dpm_solver_third_order_update(history, sample=nothing, noise=nothing)
        row = dpmpp_3m_sde(DDPM, [level.t for level in levels]).rows[-1]
        errors[gap] = abs(peer.item() - exact), abs(np.dot(row.advance.m, outputs) - exact)
    (peer_big, big), (peer_small, small) = errors.values()
    assert math.log2(peer_big / peer_small) == pytest.approx(2, abs=0.3)
    assert math.log2(big / small) == pytest.approx(3, abs=0.3)


def test_a_brownian_path_is_what_makes_dpmpp_sde_second_order():
    """Variance after many steps on a Gaussian, beside the truth; propagated exactly, for x -> gain x."""
    schedule, std = CosineVP(), 0.5

    def error(steps, brownian):
        times = [schedule.t_of_lam(-2 + 4 * i / steps) for i in range(steps + 1)]
        plan = dpmpp_sde(schedule, times, brownian=brownian)

        def denoiser(x_t, level, class_labels):
            return level.alpha * std**2 / (level.alpha**2 * std**2 + level.sigma**2) * x_t

        # Columns are the coefficients of the first state and of every draw
        units = iter(torch.eye(plan.nfe + 1, dtype=torch.float64))
        start, end = plan.levels[0], plan.levels[-1]
        x = math.hypot(start.alpha * std, start.sigma) * next(units)
        return abs(
            integrate(plan, denoiser, x, noise=units.__next__).square().sum()
            - end.alpha**2 * std**2
            - end.sigma**2
        )

    for brownian, order in ((True, 2), (False, 1)):
        assert math.log2(error(50, brownian) / error(100, brownian)) == pytest.approx(order, abs=0.2)


# -- order of convergence ------------------------------------------------------------------------------

ORDERS = {
    "2s": (dpmpp_2s, "even"),
    "2m": (dpmpp_2m, "even"),
    "2m-heun": (partial(dpmpp_2m, solver_type="heun"), "even"),
    "2m-lower": (partial(dpmpp_2m, lower_order_final=True), "even"),
    "3m": (dpmpp_3m, "even"),
    "3m-exact": (partial(dpmpp_3m, as_published=False), "slow start"),
    "sde-0": (partial(dpmpp_sde, eta=0.0), "even"),
    "sde-0-r": (partial(dpmpp_sde, eta=0.0, r=0.3), "even"),
    "2m_sde-0": (partial(dpmpp_2m_sde, eta=0.0), "even"),
    "3m_sde-0": (partial(dpmpp_3m_sde, eta=0.0, as_published=False), "slow start"),
    "dpm-3-exact": (partial(dpm_solver, order=3, as_published=False), "slow start"),
    **{
        f"dpm-{order}-{singlestep}-{solver_type}": (
            partial(dpm_solver, order=order, singlestep=singlestep, solver_type=solver_type),
            "even",
        )
        for order in (1, 2, 3)
        for singlestep in (False, True)
        for solver_type in ("midpoint", "heun")
    },
}


MIXTURE = GaussianMixture(torch.tensor([[-1.0], [0.3], [0.8]], dtype=torch.float64), std=0.4)
STARTS = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)[:, None]
NOISY, CLEAN = -2.0, 2.0  # lam at both ends


@cache
def exact_flow():
    """Return x / alpha at CLEAN, by d(x/alpha)/dlam = D - x/alpha: the same on every schedule."""

    def slope(lam, x_hat):
        at = Level(math.nan, 1.0, math.exp(-lam))
        return MIXTURE(torch.from_numpy(x_hat)[:, None], at)[:, 0].numpy() - x_hat

    return torch.from_numpy(
        solve_ivp(slope, (NOISY, CLEAN), STARTS[:, 0].numpy(), "DOP853", rtol=1e-12, atol=1e-13).y[:, -1:]
    )


@pytest.mark.parametrize("schedule", [LinearVP(), RectifiedFlow()], ids=["vp", "flow"])
@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence(name, schedule):
    solver, grid = ORDERS[name]
    errors = []
    for steps in (96, 192):
        # A third-order method that starts in first order needs first steps of size 1 / steps^2
        share = np.linspace(0, 1, steps + 1) ** (2 if grid == "slow start" else 1)
        plan = solver(schedule, [schedule.t_of_lam(float(lam)) for lam in NOISY + (CLEAN - NOISY) * share])
        first, last = plan.levels[0].alpha, plan.levels[-1].alpha
        errors.append((integrate(plan, MIXTURE, first * STARTS) / last - exact_flow()).abs().mean().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(plan.order, abs=0.2), f"errors {errors}"


# -- ends ----------------------------------------------------------------------------------------------

ALL = {name: solver for name, (solver, _) in ORDERS.items()} | {
    "2s-ancestral": partial(dpmpp_2s, eta=1.0),
    "sde": dpmpp_sde,
    "sde-apart": partial(dpmpp_sde, brownian=False),
    "2m_sde": dpmpp_2m_sde,
    "3m_sde": dpmpp_3m_sde,
    "dpm-2-lower": partial(dpm_solver, singlestep=True, lower_order_final=True),
}


@pytest.mark.parametrize("name", ALL)
def test_a_constant_image_is_reached_from_any_first_level(name, schedule):
    for inner in ([], [0.4], [0.9, 0.2], [0.9, 0.7, 0.4, 0.2, 0.03]):
        plan = ALL[name](schedule, [1.0, *inner, 0.0])
        assert "Infinity" not in plan.to_json()
        x = plan.prior_std * torch.randn(2, 3, dtype=torch.float64)
        result = integrate(plan, lambda x_t, level, _: torch.full_like(x_t, 0.3), x)
        torch.testing.assert_close(result, torch.full_like(x, 0.3))


def test_evaluations_are_counted():
    for steps in (1, 2, 3):
        times = TIMES[-steps - 1 :]
        assert dpmpp_2m(DDPM, times).nfe == dpm_solver(DDPM, times, singlestep=True).nfe == steps
        assert dpmpp_2s(DDPM, times).nfe == dpmpp_sde(DDPM, times).nfe == 2 * steps - 1


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "options", "message"),
    [
        (dpm_solver, {"order": 0}, "order of DPM-Solver must be 1, 2 or 3, got 0"),
        (dpm_solver, {"solver_type": "bh1"}, "solver_type must be one of midpoint, heun, got 'bh1'"),
        (dpmpp_2m, {"solver_type": "trapezoid"}, "solver_type must be one of"),
        (dpmpp_2m_sde, {"solver_type": ""}, "solver_type must be one of"),
        (dpmpp_2s, {"eta": 1.1}, r"eta must lie in \[0, 1\]"),
        (dpmpp_sde, {"eta": -0.1}, r"eta must lie in \[0, 1\]"),
        (dpmpp_sde, {"r": 1.0}, r"r must lie in \(0, 1\)"),
        (dpmpp_2m_sde, {"eta": -1.0}, "eta must be at least 0"),
        (dpmpp_3m_sde, {"eta": math.nan}, "eta must be at least 0"),
    ],
)
def test_nonsense_is_refused(solver, options, message):
    with pytest.raises(ValueError, match=message):
        solver(DDPM, TIMES, **options)
