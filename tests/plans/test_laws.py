"""What is true of every method, on every kind of schedule: each law once, over the table in `cases.py`."""

from __future__ import annotations

import inspect
import math
from itertools import chain, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.core import VE
from snowmelt.denoisers import GaussianMixture
from snowmelt.plans import GRIDS, SOLVERS, Plan, integrate, trajectory

from .cases import CASES, GRID_CASES, KINDS, Case
from .coefficients import known_image, last_weights, variance

MIXTURE = GaussianMixture(torch.tensor([[-1.0], [0.3], [0.8]], dtype=torch.float64), std=0.4)
STARTS = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)[:, None]
DRAWS = torch.randn(64, 9, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


each_case = pytest.mark.parametrize("case", CASES, ids=str)


def each_solver(choose=lambda case: True):
    """Run a test on the cases of each solver, or on those that `choose` takes."""
    chosen = {name: [case for case in CASES if case.solver == name and choose(case)] for name in SOLVERS}
    chosen = {name: cases for name, cases in chosen.items() if cases}
    return pytest.mark.parametrize("cases", chosen.values(), ids=chosen)


def on_kinds(cases, *kinds):
    """Yield each case, each schedule on which it runs, and how to name the pair."""
    for case, kind in product(cases, kinds or KINDS):
        if case.runs_on(KINDS[kind]):
            yield case, KINDS[kind], f"{case} on {kind}"


def run(plan: Plan, x: torch.Tensor, draws: torch.Tensor = DRAWS) -> torch.Tensor:
    return integrate(plan, MIXTURE, x, noise=iter(draws).__next__)


def assert_close(result, expected, tolerance, where):
    torch.testing.assert_close(
        result, expected, rtol=tolerance, atol=tolerance, msg=lambda text: f"{where}: {text}"
    )


# -- the table of cases --------------------------------------------------------------------------------


def test_no_solver_grid_or_option_is_missing_in_the_table():
    assert {case.solver for case in CASES} == SOLVERS.keys()
    assert {case.grid for case in GRID_CASES} == GRIDS.keys()
    tried = {option for case in CASES for option in case.options}
    assert options_of(SOLVERS) - tried == {"s_noise"}  # it changes the marginals: see test_k_diffusion.py
    assert options_of(GRIDS) == {option for case in GRID_CASES for option in case.options}


def options_of(makers):
    """The names of all options; the first two parameters are the schedule and times or steps."""
    return {name for make in makers.values() for name in list(inspect.signature(make).parameters)[2:]}


# -- a known image -------------------------------------------------------------------------------------

EVEN = [[1 - i / steps for i in range(steps)] + [0.0] for steps in (1, 2, 3)]
TO_NOISE = [1.0, 0.9, 0.8, 0.55, 0.5, 0.3, 0.15]


@each_case
def test_if_the_image_is_known_every_method_ends_at_its_marginal(case):
    """Then x_t is N(alpha_t x0, sigma_t^2) at every level, and the image itself at sigma = 0."""
    for kind in ("ddpm", "ddpm-cosine", "ddpm-zero-snr", "ve", "flow"):
        if case.runs_on(KINDS[kind]):
            for times in (*EVEN, TO_NOISE, GRIDS["karras"](KINDS[kind], 8)):
                check_marginal(case, kind, times)


# pndm is not for long steps: see its docstring
ON_ANY_GRID = [case for case in CASES if case.inner != "pndm"]


@settings(max_examples=150, deadline=None)
@given(
    case=st.sampled_from(ON_ANY_GRID),
    kind=st.sampled_from(sorted(KINDS)),
    places=st.lists(st.integers(5, 49), max_size=8, unique=True),
    end=st.sampled_from([0.0, 0.06]),
)
def test_the_marginal_is_met_on_any_grid(case, kind, places, end):
    if case.runs_on(KINDS[kind]):
        check_marginal(case, kind, [1.0, *(place / 50 for place in sorted(places, reverse=True)), end])


def check_marginal(case, kind, times):
    plan = case.plan(KINDS[kind], times)
    rows = [c for row in plan.rows for c in (row.correct, row.advance)]
    assert all(map(math.isfinite, chain.from_iterable((c.x, c.y, c.z, *c.m) for c in rows))), (kind, times)
    tolerance = rounding(case, kind)
    if tolerance < math.inf:
        weights = last_weights(plan, known_image, plan.levels[0].alpha, plan.levels[0].sigma)
        of_image, of_noise = weights[0, 0].item(), variance(weights).item()
        assert of_image == pytest.approx(plan.end.alpha, rel=tolerance), (kind, times)
        expected = pytest.approx(plan.end.sigma**2, rel=tolerance, abs=1e-3 * tolerance)
        assert of_noise == expected, (kind, times)


def rounding(case, kind):
    """Return the relative error to expect: infinite where the law is not for the method."""
    if case.quantity == "v" or (case.quantity == "eps" and "tau" in case.options):
        return math.inf  # the v of a known image is not a polynomial, and neither is eps with fresh noise
    if kind == "ddpm-cosine":  # alpha = 5e-5 at t = 1: each evaluation of eps divides rounding by alpha there
        return math.inf if case.inner == "pndm" else 1e-4
    return 1e-6


# -- levels and evaluations ----------------------------------------------------------------------------

# Six steps to the image, from some image and from pure noise. Where not listed, a step takes one evaluation
EVALUATIONS = {
    "heun": (11, 10),
    "heun-coordinate=u": (11, 11),  # in u a step out of pure noise is of second order
    "edm_stochastic": (11, 10),
    "dpm2": (11, 10),
    "dpm2_ancestral": (11, 10),
    "dpmpp_2s": (11, 10),
    "dpmpp_sde": (11, 10),
    "pndm": (15, 12),  # three Runge-Kutta steps of four; out of pure noise one of them is DDIM's
    "restart": (8, 8),  # the two steps from 0.5 to 0.1 are taken twice
    "restart-interval=[0.25, 0.75]-repeats=3": (12, 12),
    "restart-inner=pndm": (26, 23),
}


@each_solver()
def test_a_plan_evaluates_at_the_given_times_and_as_often_as_it_should(cases):
    times = [1.0, 0.75, 0.5, 0.25, 0.1, 0.05, 0.0]
    for case, schedule, where in on_kinds(cases):
        expected = EVALUATIONS.get(str(case)) or EVALUATIONS.get(case.solver, (6, 6))
        plan = case.plan(schedule, times)
        assert plan.nfe == expected[schedule(1.0).alpha == 0], where
        assert all(level == schedule(level.t) for level in plan.levels), where
        assert (plan.levels[0].t, plan.end.t) == (1.0, 0.0)
        # edm_stochastic evaluates at t only after Heun's step, and above t afterwards
        assert case.solver == "edm_stochastic" or set(times) <= {level.t for level in plan.levels}, where


# -- both ends -----------------------------------------------------------------------------------------


def ends_on_x0(case):
    """Not if a polynomial on eps goes on to sigma = 0, or if a correction makes the last eps or v stale."""
    corrects = case.options.get("corrector") or case.options.get("corrector_order")
    return case.solver not in ("lms", "ipndm", "pndm") and not (corrects and case.quantity != "x0")


@each_solver(ends_on_x0)
def test_the_last_step_into_the_image_returns_what_the_denoiser_says(cases):
    """x_t = alpha_t x0 at sigma_t = 0; a single step is the denoiser's word for pure noise."""
    for case, schedule, where in on_kinds(cases):
        for times in ([1.0, 0.0], [1.0, 0.8, 0.6, 0.5, 0.25, 0.1, 0.0]):
            plan = case.plan(schedule, times)
            *_, last = trajectory(plan, MIXTURE, plan.prior_std * STARTS, noise=iter(DRAWS).__next__)
            assert_close(last.x_t, plan.end.alpha * last.x0, 1e-7, where)


# ipndm and pndm average the eps of pure noise like any other; in u that is a level like any other; restart
# and edm_stochastic go up again
THROUGH_NOISE = {"ipndm", "pndm", "heun-coordinate=u", "restart", "edm_stochastic"}


@each_solver(lambda case: not {case.solver, str(case)} & THROUGH_NOISE)
def test_after_a_step_out_of_pure_noise_a_method_begins_anew(cases):
    """An output at infinite lam cannot be a node of a polynomial, and eps says nothing there."""
    times = [1.0, 0.9, 0.7, 0.5, 0.4, 0.25, 0.12]
    for case, schedule, where in on_kinds(cases, "ddpm-zero-snr", "vp-cosine", "flow"):
        first, rest = case.plan(schedule, times[:2]), case.plan(schedule, times[1:])
        expected = run(rest, run(first, STARTS), DRAWS[1:] if first.stochastic else DRAWS)
        assert_close(run(case.plan(schedule, times), STARTS), expected, 1e-8, where)


# -- changes of variables ------------------------------------------------------------------------------


def looks_at_the_time(case):
    return case.in_t or case.solver == "restart" or (case.solver == "sa_solver" and case.stochastic)


@each_solver(lambda case: not looks_at_the_time(case))
def test_of_a_schedule_only_sigma_over_alpha_matters(cases):
    """At equal sigma/alpha, x_t / alpha_t is the same on every schedule: so is the order of convergence."""
    expected = {}
    for case, schedule, where in on_kinds(cases, "vp-linear", "ve", "flow", "ddpm"):
        times = [schedule.t_of_lam(lam) for lam in (-1.8, -1.2, -0.9, 0.1, 0.4, 1.1, 2.0)]
        plan = case.plan(schedule, times)
        image = run(plan, plan.levels[0].alpha * STARTS) / plan.end.alpha
        assert_close(image, expected.setdefault(str(case), image), 1e-9, where)


def has_no_units(case):
    """s_min and s_max of edm_stochastic have units, and so has u = sigma / (alpha + sigma); VE has no v."""
    units = case.solver == "edm_stochastic" or case.options.get("coordinate") in ("u", "angle", "t")
    return not units and case.quantity != "v"


@each_solver(has_no_units)
def test_other_units_of_the_data_scale_the_samples(cases):
    """Data and noise in other units: every state is in other units, and nothing else changes."""
    for case in cases:
        images = []
        for scale in (1.0, 30.0):
            schedule = VE(0.01 * scale, 20.0 * scale)
            plan = case.plan(schedule, GRIDS["karras"](schedule, 6))
            denoiser = GaussianMixture(scale * MIXTURE.means, 0.4 * scale)
            x = plan.levels[0].sigma * STARTS
            images.append(integrate(plan, denoiser, x, noise=iter(DRAWS).__next__) / scale)
        assert_close(*images, 1e-6, str(case))


# -- methods that are one ------------------------------------------------------------------------------


def is_ddim(case):
    return case.order == 1 and not case.stochastic and not case.options.get("corrector_order")


@each_solver(is_ddim)
def test_every_deterministic_method_of_first_order_is_ddim(cases):
    times = [1.0, 0.8, 0.6, 0.5, 0.25, 0.1, 0.0]
    for case, schedule, where in on_kinds(cases):
        plan, expected = case.plan(schedule, times), SOLVERS["ddim"](schedule, times)
        x = plan.prior_std * STARTS
        assert_close(run(plan, x), run(expected, x), 1e-8, where)


# Options with which a method draws no noise, and the method that it then is
WITHOUT_NOISE = {
    "euler_ancestral": ({"eta": 0.0}, "euler"),
    "dpm2_ancestral": ({"eta": 0.0}, "dpm2"),
    "edm_stochastic": ({"churn": 0.0}, "heun"),
    "dpmpp_sde": ({"eta": 0.0}, "dpmpp_2s"),
    "dpmpp_2m_sde": ({"eta": 0.0}, "dpmpp_2m"),
    "dpmpp_3m_sde": ({"eta": 0.0}, "dpmpp_3m"),
    "restart": ({"repeats": 0, "inner": "unipc"}, "unipc"),
}


@pytest.mark.parametrize("solver", WITHOUT_NOISE)
def test_without_its_noise_a_method_is_a_deterministic_one(solver):
    options, other = WITHOUT_NOISE[solver]
    for case, schedule, where in on_kinds([Case(solver, options, 2, None)]):
        times = [1.0, 0.8, 0.6, 0.5, 0.25, 0.1, 0.0]
        plan, expected = case.plan(schedule, times), SOLVERS[other](schedule, times)
        assert not plan.stochastic, where
        x = plan.prior_std * STARTS
        assert_close(run(plan, x), run(expected, x), 1e-9, where)
