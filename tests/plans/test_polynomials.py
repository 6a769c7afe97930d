"""A multistep method of order k is exact where its outputs are polynomials of degree k - 1 in its coordinate.

The exact step is an integral (the formulas of `snowmelt.plans.builder`), here by adaptive quadrature:

    x0:   alpha_t (1 + tau^2) Integral e^{(1 + tau^2) (lam - lam_t)} D(lam) dlam
    eps: -sigma_t (1 + tau^2) Integral e^{lam_t - lam} E(lam) dlam
    v:   Integral V dphi  with phi = arctan e^{-lam}
"""

from __future__ import annotations

import math
from functools import cache
from itertools import product
from typing import NamedTuple

import pytest
from scipy.integrate import quad

from snowmelt.core import CosineVP
from snowmelt.plans import Method

SCHEDULE = CosineVP()  # variance preserving, with t = 2 / pi arctan e^{-lam}
COORDINATES = {
    "lam": lambda lam: lam,
    "t": lambda lam: 2 / math.pi * math.atan(math.exp(-lam)),
    "sigma": lambda lam: math.exp(-lam),
    "u": lambda lam: 1 / (1 + math.exp(lam)),
    "angle": lambda lam: math.atan(math.exp(-lam)),
}
# lam at the evaluations and at the result: even, uneven, short and long steps
GRIDS = {
    "even": [-1.5, -1.2, -0.9, -0.6, -0.3, 0.0, 0.3, 0.6],
    "uneven": [-2.0, -1.9, -1.2, -1.1, -0.4, 0.5, 0.6, 1.4],
    "short": [0.5 + 1e-3 * i for i in range(8)],
    "long": [-7.0, -5.0, -4.0, -2.0, 0.5, 2.0, 3.0, 7.0],
}


@cache
def exact(quantity: str, coordinate: str, tau: float, degree: int, lam_s: float, lam_t: float) -> float:
    """The step that the output (c - c_s)^degree makes, with the coordinate counted from the step's start."""
    of, rate = COORDINATES[coordinate], 1 + tau**2
    t = SCHEDULE(SCHEDULE.t_of_lam(lam_t))
    mass, factor = {
        "x0": (lambda lam: math.exp(rate * (lam - lam_t)), t.alpha * rate),
        "eps": (lambda lam: math.exp(lam_t - lam), -t.sigma * rate),
        "v": (lambda lam: math.exp(-lam) / (1 + math.exp(-2 * lam)), -1.0),
    }[quantity]
    integral, _ = quad(
        lambda lam: mass(lam) * (of(lam) - of(lam_s)) ** degree, lam_s, lam_t, epsabs=0, epsrel=1e-11
    )
    return factor * integral


FULL = "lower_order_final=false"


class Polynomial(NamedTuple):
    """A method and what it interpolates, through how many outputs at most."""

    method: str
    predictor: int
    corrector: int = 0
    quantity: str = "x0"
    coordinate: str = "lam"
    tau: float = 0.0
    otherwise: int = 0  # with so many outputs its weights are other than the integral's


POLYNOMIALS = [
    *(Polynomial(f"adams order={k} corrector_order={k}", k, k) for k in (1, 2, 3, 4, 5, 6)),
    *(
        Polynomial(f"adams order=3 corrector_order=4 quantity={q} coordinate={c}", 3, 4, q, c)
        for q, c in product(("x0", "eps"), COORDINATES)
    ),
    *(  # one v alone is DDIM's step
        Polynomial(f"adams order=3 corrector_order=4 quantity=v coordinate={c}", 3, 4, "v", c, otherwise=1)
        for c in COORDINATES
    ),
    *(
        Polynomial(f"adams order=3 corrector_order=4 tau={tau} quantity={q}", 3, 4, q, tau=tau)
        for q, tau in product(("x0", "eps"), (0.7, 1.0))
    ),
    Polynomial("deis order=4 variant=tAB lower_order_final=false", 4, 0, "eps", "t"),
    Polynomial("deis order=4 variant=rhoAB lower_order_final=false", 4, 0, "eps", "sigma"),
    Polynomial("deis order=4 variant=logrhoAB lower_order_final=false", 4, 0, "eps", "lam"),
    *(Polynomial(f"lms order={k}", k, 0, "eps", "sigma") for k in (1, 2, 3, 4)),
    Polynomial("dpm_solver order=2 solver_type=heun", 2, 0, "eps"),
    Polynomial("dpm_solver order=3 solver_type=heun as_published=false", 3, 0, "eps"),
    Polynomial("dpmpp_2m solver_type=heun", 2),
    Polynomial("dpmpp_3m as_published=false", 3),
    Polynomial("dpmpp_2m_sde solver_type=heun", 2, tau=1.0),
    Polynomial("dpmpp_3m_sde as_published=false", 3, tau=1.0),
    Polynomial("dpmpp_3m_sde as_published=false eta=0.49", 3, tau=0.7),
    # SA-Solver and UniPC weigh the slope through two outputs in another way
    Polynomial(
        f"sa_solver predictor_order=3 corrector_order=4 tau=0.7 interval=[0,1] {FULL}",
        3,
        4,
        tau=0.7,
        otherwise=2,
    ),
    Polynomial(f"sa_solver predictor_order=4 corrector_order=3 tau=0.0 {FULL}", 4, 3, otherwise=2),
    *(
        Polynomial(f"unipc order=3 variant={b} quantity={q} {FULL}", 3, 4, q, otherwise=2)
        for b, q in product(("bh1", "bh2"), ("x0", "eps"))
    ),
]


@pytest.mark.parametrize("case", POLYNOMIALS, ids=lambda case: case.method)
def test_a_multistep_method_integrates_polynomials_exactly(case):
    """From the first step on, with one output more at each step, and in every correction."""
    for lams in GRIDS.values():
        plan = Method.parse(case.method).plan(SCHEDULE, [SCHEDULE.t_of_lam(lam) for lam in lams])
        for i, row in enumerate(plan.rows):
            check(case, row.advance.m, lams[i::-1], case.predictor, lams[i], lams[i + 1])
            if case.corrector and i:
                check(case, row.correct.m, lams[i::-1], case.corrector, lams[i - 1], lams[i])


def check(case, weights, nodes, most, lam_s, lam_t):
    nodes = nodes[:most]
    known = len(nodes) if len(nodes) != case.otherwise else 0
    assert not any(weights[len(nodes) :])
    of = COORDINATES[case.coordinate]
    for degree in range(known):
        terms = [w * (of(lam) - of(lam_s)) ** degree for w, lam in zip(weights, nodes, strict=False)]
        expected = exact(case.quantity, case.coordinate, case.tau, degree, lam_s, lam_t)
        assert sum(terms) == pytest.approx(expected, rel=1e-9, abs=1e-10 * sum(map(abs, terms))), (
            nodes,
            degree,
        )
