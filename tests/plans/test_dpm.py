"""DPM-Solver and DPM-Solver++: beside diffusers, and where the peers err."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, DPMSolverSDEScheduler, DPMSolverSinglestepScheduler

from snowmelt.core import DiscreteSchedule, Level, make_betas
from snowmelt.plans import SOLVERS

from .peers import oracle, path_through, run, sigma_hat

DDPM = DiscreteSchedule(make_betas())
INDICES = [999, 940, 860, 700, 500, 320, 180, 90, 30]
solver_types = pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
orders = pytest.mark.parametrize("order", [1, 2, 3])


# -- diffusers -----------------------------------------------------------------------------------------


class _InDouble:
    """The peer casts its state to float32, where errors below 1e-4 hide: this torch's float32 is float64."""

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


def theirs(scheduler, levels, x, draws=None):
    denoiser, state = oracle(x.dtype), x
    for i, (k, level) in enumerate(zip(scheduler.timesteps, levels, strict=False)):
        noise = {} if draws is None else {"variance_noise": draws[i]}
        state = scheduler.step(denoiser(state, level), k, state, **noise).prev_sample.to(x.dtype)
    return state


def start(steps, end):
    """Times from an index on, to the first index or to the clean image, and a state."""
    last = {"sigma_min": DDPM.t_of_index(0), "zero": 0.0}[end]
    times = [*(DDPM.t_of_index(k) for k in INDICES[-steps:]), last]
    return times, [DDPM(t) for t in times], torch.randn(4, 6, dtype=torch.float64)


@pytest.mark.usefixtures("in_double")
@pytest.mark.filterwarnings("ignore:.*algorithm_type:FutureWarning")
@orders
@solver_types
@pytest.mark.parametrize("lower_order_final", [False, True])
def test_dpm_solver_equals_diffusers(order, solver_type, lower_order_final):
    options = {"solver_type": solver_type, "lower_order_final": lower_order_final}
    for steps in (1, 2, 3, 9):
        times, levels, x = start(steps, "sigma_min")
        scheduler = DPMSolverMultistepScheduler(
            algorithm_type="dpmsolver",
            prediction_type="sample",
            solver_order=order,
            final_sigmas_type="sigma_min",
            **options,
        )
        peer = theirs(on_levels(scheduler, levels), levels, x)
        result = run(SOLVERS["dpm_solver"](DDPM, times, order=order, **options), x)
        torch.testing.assert_close(result, peer, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*algorithm_type:FutureWarning")
@orders
@solver_types
def test_dpm_solver_singlestep_equals_diffusers(order, solver_type):
    for steps, lower_order_final in ((6, False), (7, True), (6, True)):
        options = {"solver_type": solver_type, "lower_order_final": lower_order_final}
        times, levels, x = start(steps, "sigma_min")
        scheduler = DPMSolverSinglestepScheduler(
            algorithm_type="dpmsolver",
            prediction_type="sample",
            solver_order=order,
            final_sigmas_type="sigma_min",
            **options,
        )
        peer = theirs(on_levels(scheduler, levels), levels, x)
        result = run(SOLVERS["dpm_solver"](DDPM, times, order=order, singlestep=True, **options), x)
        torch.testing.assert_close(result, peer, rtol=1e-9, atol=1e-9)


MULTISTEP = {
    "dpmpp_2m": ({}, {"solver_order": 2}),
    "dpmpp_2m-heun": ({"solver_type": "heun"}, {"solver_order": 2, "solver_type": "heun"}),
    "dpmpp_3m": ({}, {"solver_order": 3, "solver_type": "heun"}),
    "dpmpp_2m_sde": ({}, {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_2m_sde-heun": (
        {"solver_type": "heun"},
        {"solver_order": 2, "solver_type": "heun", "algorithm_type": "sde-dpmsolver++"},
    ),
}


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("name", MULTISTEP)
@pytest.mark.parametrize("final", ["lower_order_final", "euler_at_final", None])
def test_dpmpp_equals_diffusers(name, final):
    options, of_peer = MULTISTEP[name]
    if final == "euler_at_final" and of_peer["solver_order"] == 3:
        return  # the last step alone in first order is the same as ours for order 2 only
    for steps in (1, 2, 3, 9):
        for end in ("zero", "sigma_min"):
            times, levels, x = start(steps, end)
            draws = torch.randn(steps, 4, 6, dtype=torch.float64)
            scheduler = DPMSolverMultistepScheduler(
                prediction_type="sample",
                final_sigmas_type=end,
                lower_order_final=final == "lower_order_final",
                euler_at_final=final == "euler_at_final",
                **of_peer,
            )
            peer = theirs(on_levels(scheduler, levels), levels, x, draws)
            solver = SOLVERS[name.removesuffix("-heun")]
            result = run(solver(DDPM, times, lower_order_final=final is not None, **options), x, draws)
            torch.testing.assert_close(result, peer, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MULTISTEP)
def test_dpmpp_equals_diffusers_as_it_comes(name):
    """In float32, with nothing of the peer's replaced but where it steps."""
    options, of_peer = MULTISTEP[name]
    times, levels, x = start(9, "zero")
    x, draws = x.float(), torch.randn(9, 4, 6)
    scheduler = DPMSolverMultistepScheduler(prediction_type="sample", **of_peer)
    scheduler.set_timesteps(timesteps=INDICES)
    peer = theirs(scheduler, levels, x, draws)
    plan = SOLVERS[name.removesuffix("-heun")](DDPM, times, lower_order_final=True, **options)
    torch.testing.assert_close(run(plan, x, draws), peer, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_dpmpp_2s_equals_diffusers(steps):
    times, _, x = start(steps, "zero")
    plan = SOLVERS["dpmpp_2s"](DDPM, times)
    scheduler = DPMSolverSinglestepScheduler(prediction_type="sample", solver_order=2, lower_order_final=True)
    peer = theirs(on_levels(scheduler, plan.levels), plan.levels, x)
    torch.testing.assert_close(run(plan, x), peer, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [2, 3, 9])
def test_dpmpp_sde_equals_diffusers(steps):
    times, levels, x = start(steps, "zero")
    plan = SOLVERS["dpmpp_sde"](DDPM, times)
    draws = torch.randn(plan.nfe, 4, 6, dtype=torch.float64)
    scheduler = DPMSolverSDEScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    twice = [levels[0], *(level for level in levels[1:-1] for _ in range(2)), levels[-1]]
    scheduler.sigmas = torch.tensor([sigma_hat(level) for level in twice], dtype=torch.float64)
    scheduler.noise_sampler = path_through(plan, draws)
    state = x / levels[0].alpha
    for k, level in zip(scheduler.timesteps, plan.levels, strict=False):
        sigma = torch.tensor(sigma_hat(level), dtype=torch.float64)
        eps = (state - oracle(state.dtype)(state, Level(math.nan, 1.0, sigma.item()))) / sigma
        state = scheduler.step(eps, k, state).prev_sample
    torch.testing.assert_close(run(plan, x, draws), state, rtol=1e-9, atol=1e-9)


# -- where the peers err -------------------------------------------------------------------------------


def parabola(levels, tau):
    """The image lam^2 at three levels, and what the exact step makes of it: an integral in closed form."""
    *_, s, t = levels
    c, h = 1 + tau**2, t.lam - s.lam
    upper, lower = (math.exp(c * u) * ((t.lam + u) ** 2 - 2 * (t.lam + u) / c + 2 / c**2) for u in (0.0, -h))
    return [level.lam**2 for level in levels[-2::-1]], t.alpha * (upper - lower)


@pytest.mark.parametrize(("solver", "tau"), [("dpmpp_3m", 0.0), ("dpmpp_3m_sde", 1.0)])
def test_the_published_curvature_is_half_of_the_integrals(solver, tau):
    levels = [DDPM(t) for t in (0.8, 0.7, 0.55, 0.4)]
    outputs, exact = parabola(levels, tau)

    def last(**options):
        plan = SOLVERS[solver](DDPM, [level.t for level in levels], **options)
        return float(np.dot(plan.rows[-1].advance.m, outputs))

    # lam^2 is the parabola theta^2 h^2 and a straight line: the missing half is the moment of theta^2, halved
    s, t = levels[-2:]
    h, c = t.lam - s.lam, 1 + tau**2
    theta, mass = (np.polynomial.legendre.leggauss(30)[0] + 1) / 2, np.polynomial.legendre.leggauss(30)[1] / 2
    moment = t.alpha * c * h * (mass * np.exp(-c * h * (1 - theta)) * (theta * h) ** 2).sum()
    assert last(as_published=False) == pytest.approx(exact, rel=1e-12)
    assert last() == pytest.approx(exact - moment / 2, rel=1e-9)


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
        row = SOLVERS["dpmpp_3m_sde"](DDPM, [level.t for level in levels]).rows[-1]
        errors[gap] = abs(peer.item() - exact), abs(np.dot(row.advance.m, outputs) - exact)
    (peer_big, big), (peer_small, small) = errors.values()
    assert math.log2(peer_big / peer_small) == pytest.approx(2, abs=0.3)
    assert math.log2(big / small) == pytest.approx(3, abs=0.3)


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "options", "message"),
    [
        ("dpm_solver", {"order": 0}, "order of DPM-Solver must be 1, 2 or 3, got 0"),
        ("dpm_solver", {"solver_type": "bh1"}, "solver_type must be one of midpoint, heun, got 'bh1'"),
        ("dpmpp_2m", {"solver_type": "trapezoid"}, "solver_type must be one of"),
        ("dpmpp_2m_sde", {"solver_type": ""}, "solver_type must be one of"),
        ("dpmpp_2s", {"eta": 1.1}, r"eta must lie in \[0, 1\]"),
        ("dpmpp_sde", {"eta": -0.1}, r"eta must lie in \[0, 1\]"),
        ("dpmpp_sde", {"r": 1.0}, r"r must lie in \(0, 1\)"),
        ("dpmpp_2m_sde", {"eta": -1.0}, "eta must be at least 0"),
        ("dpmpp_3m_sde", {"eta": math.nan}, "eta must be at least 0"),
    ],
)
def test_nonsense_is_refused(solver, options, message):
    with pytest.raises(ValueError, match=message):
        SOLVERS[solver](DDPM, [0.95, 0.6, 0.3, 0.0], **options)
