"""The one linear system: its solution, its moments in closed form, and methods that turn out to be one."""

from __future__ import annotations

import doctest
import math
import re
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.core import CosineVP, Level, LinearVP
from snowmelt.plans.builder import interpolatory_weights
from snowmelt.plans.moments import in_coordinate, moments
from snowmelt.plans.solvers.adams import adams
from snowmelt.plans.solvers.deis import deis
from snowmelt.plans.solvers.dpm_solver import dpm_solver
from snowmelt.plans.solvers.dpmpp_2m import dpmpp_2m
from snowmelt.plans.solvers.dpmpp_3m import dpmpp_3m
from snowmelt.plans.solvers.lms import lms
from snowmelt.plans.solvers.sa_solver import sa_solver
from snowmelt.plans.solvers.unipc import unipc

from .cases import KINDS

# -- nodes against moments -----------------------------------------------------------------------------


@settings(deadline=None)
@given(gaps=st.lists(st.floats(0.02, 50.0), max_size=5), newest=st.sampled_from([0.0, 1.0]))
def test_weights_have_all_their_digits_on_uneven_nodes(gaps, newest):
    """The mean over [0, 1] of each Lagrange polynomial, in rational arithmetic."""
    nodes = [newest, *(newest - total for total in np.cumsum(gaps).tolist())]
    weights = interpolatory_weights(nodes, [1 / (n + 1) for n in range(len(nodes))])
    exact = [mean_of_lagrange([Fraction(node) for node in nodes], j) for j in range(len(nodes))]
    assert weights == pytest.approx([float(weight) for weight in exact], rel=1e-12, abs=1e-13)


def mean_of_lagrange(nodes: list[Fraction], j: int) -> Fraction:
    coefficients = [Fraction(1)]  # of 1, theta, theta^2, ...
    for i, node in enumerate(nodes):
        if i != j:
            shifted = [Fraction(0), *coefficients]
            scaled = [-node * c for c in coefficients] + [Fraction(0)]
            coefficients = [(a + b) / (nodes[j] - node) for a, b in zip(shifted, scaled, strict=True)]
    return sum((c / (n + 1) for n, c in enumerate(coefficients)), Fraction(0))


# -- moments -------------------------------------------------------------------------------------------


def two_levels(h: float) -> tuple[Level[float], Level[float]]:
    return Level(0.7, 0.6, 0.8), Level(0.5, 0.9, 0.9 * 0.8 / 0.6 * math.exp(-h))


def phi(k: int, z: float) -> float:
    """phi_k(z) = sum over n of z^n / (n + k)!, in rational arithmetic."""
    return float(sum(Fraction(z) ** n / math.factorial(n + k) for n in range(200)))


@pytest.mark.parametrize("h", [20.0, 3.0, 0.1])
@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_moments_of_x0_and_eps_in_lam_are_phi_functions(h, tau):
    """M_n = z n! phi_{n+1}(z) times -alpha_t or -sigma_t, as in exponential integrators."""
    s, t = two_levels(h)
    c = 1 + tau**2
    for quantity, z, outer in (("x0", -c * h, t.alpha), ("eps", h, c * t.sigma)):
        expected = [-outer * z * math.factorial(n) * phi(n + 1, z) for n in range(5)]
        np.testing.assert_allclose(moments(s, t, 5, tau, quantity), expected, rtol=1e-12)


@pytest.mark.parametrize("h", [3.0, 0.1, -2.0])
def test_where_the_flow_is_a_plain_integral_moments_are_those_of_a_mean(h):
    """Such as eps in sigma/alpha, and v in the angle: the whole step over n + 1."""
    s, t = two_levels(h)
    of_mean = 1 / np.arange(1, 6)
    in_sigma, in_angle = (in_coordinate(CosineVP(), name) for name in ("sigma", "angle"))
    step = t.alpha * (t.sigma / t.alpha - s.sigma / s.alpha)
    np.testing.assert_allclose(moments(s, t, 5, 0.0, "eps", in_sigma), step * of_mean, rtol=1e-12)
    angle = math.atan(t.sigma / t.alpha) - math.atan(s.sigma / s.alpha)
    np.testing.assert_allclose(moments(s, t, 5, 0.0, "v", in_angle), angle * of_mean, rtol=1e-12)


# -- methods that are one ------------------------------------------------------------------------------

ONE_METHOD = {
    "DPM-Solver++(2M) and UniP-2, B(h) = e^h - 1": (
        dpmpp_2m,
        partial(unipc, order=2, variant="bh2", corrector=False, lower_order_final=False),
    ),
    "SA-Solver of order 2 at tau = 0 and UniP-2, B(h) = h": (
        partial(sa_solver, predictor_order=2, corrector_order=0, tau=0.0),
        partial(unipc, order=2, variant="bh1", corrector=False),
    ),
    "UniP-3 after its start and Adams": (
        partial(unipc, order=3, corrector=False, lower_order_final=False),
        partial(adams, order=3),
    ),
    "DPM-Solver++(2M), heun, and Adams": (partial(dpmpp_2m, solver_type="heun"), partial(adams, order=2)),
    "DPM-Solver++(3M) with the integral's curvature and Adams": (
        partial(dpmpp_3m, as_published=False),
        partial(adams, order=3),
    ),
    "DPM-Solver-3 with the integral's curvature and logrhoAB": (
        partial(dpm_solver, order=3, solver_type="heun", as_published=False),
        partial(deis, order=3, variant="logrhoAB", lower_order_final=False),
    ),
    "LMS and rhoAB": (
        partial(lms, order=4),
        partial(deis, order=4, variant="rhoAB", lower_order_final=False),
    ),
}


@pytest.mark.parametrize("pair", ONE_METHOD.values(), ids=ONE_METHOD)
def test_two_published_methods_are_one(pair):
    times = [0.95, 0.83, 0.6, 0.41, 0.2, 0.07]
    for kind, schedule in KINDS.items():
        one, other = (solver(schedule, times) for solver in pair)
        assert one.quantity == other.quantity
        for a, b in list(zip(one.rows, other.rows, strict=True))[2:]:
            numbers = [[row.advance.y, *row.advance.m] for row in (a, b)]
            np.testing.assert_allclose(*numbers, rtol=1e-10, err_msg=kind)


# -- the page ------------------------------------------------------------------------------------------


def test_the_examples_of_the_page_run():
    page = (Path(__file__).parents[2] / "docs" / "solvers-as-moments.md").read_text()
    examples = doctest.DocTestParser().get_doctest(page, {}, "page", None, None)
    assert len(examples.examples) > 10
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_pages_own_method_is_deis():
    page = (Path(__file__).parents[2] / "docs" / "solvers-as-moments.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    times = [1.0, 0.8, 0.6, 0.4, 0.3, 0.1, 0.0]
    for schedule in (CosineVP(), LinearVP()):
        plan = names["four_step"](schedule, times)
        assert plan == deis(schedule, times, order=4, variant="logrhoAB", lower_order_final=False)
