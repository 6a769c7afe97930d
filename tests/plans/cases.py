"""The methods that the laws of this folder run over: one line a method, with the order that it claims.

A new solver or grid gets a line here; `test_laws.py` looks whether one is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from snowmelt.core import VE, CosineVP, DiscreteSchedule, LinearVP, NoiseSchedule, RectifiedFlow, make_betas
from snowmelt.plans import Method, Plan

__all__ = ["CASES", "GRID_CASES", "KINDS", "Case", "GridCase", "Peer"]

# One schedule of each kind: alpha at t = 1 is small, tiny or exactly 0; alpha^2 + sigma^2 is 1 or not
KINDS: dict[str, NoiseSchedule] = {
    "ddpm": DiscreteSchedule(make_betas()),
    "ddpm-cosine": DiscreteSchedule(make_betas("cosine")),
    "ddpm-zero-snr": DiscreteSchedule(make_betas(), zero_terminal_snr=True),
    "vp-linear": LinearVP(),
    "vp-cosine": CosineVP(),
    "ve": VE(),
    "flow": RectifiedFlow(),
}


class Peer(NamedTuple):
    """The function of k-diffusion that does the same."""

    sampler: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A solver with options, the order of convergence that its plan claims, and its peer."""

    solver: str
    options: Mapping[str, Any]
    order: int
    peer: Peer | None

    def __str__(self) -> str:
        return "-".join([self.solver, *(f"{name}={value}" for name, value in self.options.items())])

    def plan(self, schedule: NoiseSchedule, times: Sequence[float]) -> Plan:
        return Method(self.solver, options=self.options).plan(schedule, times)

    @property
    def stochastic(self) -> bool:
        return self.plan(KINDS["vp-cosine"], [0.6, 0.5, 0.4, 0.1]).stochastic

    @property
    def in_t(self) -> bool:
        """Whether the table depends on the times themselves, and not on sigma/alpha alone."""
        options = {"variant": "tAB" if self.solver == "deis" else "", **self.options}
        polynomial = options["variant"] == "tAB" or options.get("coordinate") == "t" or "uneven" in options
        return polynomial or self.inner == "pndm"

    @property
    def quantity(self) -> str:
        return self.options.get("quantity", "x0")

    @property
    def inner(self) -> str:
        """The solver that runs: of `restart` another one."""
        return self.options.get("inner", self.solver)

    def runs_on(self, schedule: NoiseSchedule) -> bool:
        """Whether it does, from t = 1: v needs alpha^2 + sigma^2 = 1, and eps with fresh noise alpha > 0."""
        if self.quantity == "v":
            return schedule not in (KINDS["ve"], KINDS["flow"])
        return schedule(1.0).alpha > 0 or not (self.quantity == "eps" and "tau" in self.options)


def of(solver: str, order: int, peer: Peer | None = None, /, **options: Any) -> Case:
    return Case(solver, options, order, peer)


def k(name: str, **options: Any) -> Peer:
    return Peer(f"sample_{name}", options)


EXACT, TO_ONE = {"as_published": False}, {"lower_order_final": True}
TO_THE_END = {"lower_order_final": False}

CASES = [
    of("ddpm", 1, k("euler_ancestral")),
    of("ddim", 1, k("euler")),
    of("ddim", 1, k("euler_ancestral", eta=0.3), eta=0.3),
    of("euler", 1, k("euler")),
    of("euler_ancestral", 1, k("euler_ancestral")),
    of("euler_ancestral", 1, k("euler_ancestral", eta=0.6), eta=0.6),
    of("heun", 2, k("heun")),
    of("heun", 2, coordinate="u"),
    of("edm_stochastic", 2),
    of("edm_stochastic", 2, churn=5.0, s_min=0.2, s_max=4.0),
    *(of("lms", order, k("lms", order=order), order=order) for order in (1, 2, 3, 4)),
    of("dpm2", 2, k("dpm_2")),
    of("dpm2_ancestral", 2, k("dpm_2_ancestral")),
    of("dpm2_ancestral", 2, k("dpm_2_ancestral", eta=0.6), eta=0.6),
    # DPM-Solver
    of("dpm_solver", 1, order=1),
    of("dpm_solver", 2, order=2),
    of("dpm_solver", 2, order=2, solver_type="heun"),
    of("dpm_solver", 2, order=3),  # the published weight of the curvature costs an order
    of("dpm_solver", 3, order=3, **EXACT),
    of("dpm_solver", 2, order=3, **EXACT, **TO_ONE),
    of("dpm_solver", 1, order=1, singlestep=True),
    of("dpm_solver", 2, order=2, singlestep=True),
    of("dpm_solver", 2, order=2, singlestep=True, solver_type="heun"),
    of("dpm_solver", 3, order=3, singlestep=True),
    of("dpm_solver", 3, order=3, singlestep=True, solver_type="heun"),
    of("dpm_solver", 2, order=2, singlestep=True, **TO_ONE),
    of("dpm_solver", 2, order=3, singlestep=True, **TO_ONE),
    of("dpmpp_2s", 2, k("dpmpp_2s_ancestral", eta=0.0)),
    of("dpmpp_2s", 2, k("dpmpp_2s_ancestral", eta=0.6), eta=0.6),
    of("dpmpp_2s", 2, k("dpmpp_2s_ancestral"), eta=1.0),
    of("dpmpp_2m", 2, k("dpmpp_2m")),
    of("dpmpp_2m", 2, solver_type="heun"),
    of("dpmpp_2m", 2, **TO_ONE),
    of("dpmpp_3m", 2, k("dpmpp_3m_sde", eta=0.0)),
    of("dpmpp_3m", 3, **EXACT),
    of("dpmpp_3m", 2, **EXACT, **TO_ONE),
    of("dpmpp_sde", 2),
    of("dpmpp_sde", 2, eta=0.7, r=0.3),
    of("dpmpp_sde", 1, k("dpmpp_sde"), brownian=False),
    of("dpmpp_sde", 1, k("dpmpp_sde", eta=0.7, r=0.3), eta=0.7, r=0.3, brownian=False),
    of("dpmpp_sde", 2, k("dpmpp_sde", eta=0.0), eta=0.0),
    of("dpmpp_sde", 2, k("dpmpp_sde", eta=0.0, r=0.3), eta=0.0, r=0.3),
    of("dpmpp_2m_sde", 2, k("dpmpp_2m_sde")),
    of("dpmpp_2m_sde", 2, k("dpmpp_2m_sde", solver_type="heun", eta=0.6), solver_type="heun", eta=0.6),
    of("dpmpp_2m_sde", 2, k("dpmpp_2m_sde", eta=0.0), eta=0.0),
    of("dpmpp_2m_sde", 2, **TO_ONE),
    of("dpmpp_3m_sde", 2, k("dpmpp_3m_sde")),
    of("dpmpp_3m_sde", 2, k("dpmpp_3m_sde", eta=1.5), eta=1.5),
    of("dpmpp_3m_sde", 2, **EXACT),
    of("dpmpp_3m_sde", 3, eta=0.0, **EXACT),
    # predictors and correctors
    of("unipc", 2),
    of("unipc", 2, order=1),
    of("unipc", 2, order=3),
    *(
        of("unipc", order + corrector, order=order, variant=b, quantity=q, corrector=corrector, **TO_THE_END)
        for order, (b, q), corrector in product((1, 2, 3), (("bh1", "x0"), ("bh2", "eps")), (True, False))
    ),
    of("sa_solver", 1),
    of("sa_solver", 1, tau=0.7, predictor_order=3, corrector_order=4, interval=[0, 1]),
    of("sa_solver", 2, tau=0.0),
    *(
        of("sa_solver", order, tau=0.0, predictor_order=p, corrector_order=c, **TO_THE_END)
        for p, c, order in ((1, 0, 1), (2, 0, 2), (4, 0, 4), (1, 1, 1), (1, 2, 2), (2, 3, 3), (3, 4, 4))
    ),
    of("deis", 2),
    *(of("deis", order, order=order, **TO_THE_END) for order in (1, 2, 3, 4)),
    *(of("deis", order, variant="rhoAB", order=order, **TO_THE_END) for order in (2, 4)),
    *(of("deis", order, variant="logrhoAB", order=order, **TO_THE_END) for order in (2, 3)),
    *(of("adams", order, order=order) for order in (1, 2, 3, 4, 5, 6)),
    of("adams", 2, order=3, corrector_order=4, **TO_ONE),
    *(
        of("adams", 3, order=2, corrector_order=3, quantity=q, coordinate=c)
        for q, c in product(("x0", "eps", "v"), ("lam", "t", "sigma", "u", "angle"))
    ),
    of("adams", 4, order=3, corrector_order=4, quantity="eps", coordinate="u"),
    of("adams", 1, order=1, tau=1.0),
    of("adams", 1, order=2, corrector_order=3, tau=0.7),
    of("adams", 1, order=2, corrector_order=3, tau=0.7, quantity="eps"),
    *(of("ipndm", min(order, 2), order=order) for order in (1, 2, 3, 4)),
    *(of("ipndm", 2, order=order, uneven=True) for order in (2, 3, 4)),
    of("pndm", 2),
    of("restart", 1),
    of("restart", 1, interval=[0.25, 0.75], repeats=3),
    of("restart", 2, inner="pndm"),
    of("restart", 2, inner="dpmpp_2m", inner_options={"solver_type": "heun"}),
    of("restart", 2, inner="adams", inner_options={"quantity": "eps", "order": 2}),
    of("restart", 2, inner="dpmpp_3m", inner_options=EXACT),  # every descent starts in first order again
]


class GridCase(NamedTuple):
    """A grid with options."""

    grid: str
    options: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return "-".join([self.grid, *(f"{name}={value}" for name, value in self.options.items())])


GRID_CASES = [
    GridCase("trailing"),
    GridCase("leading"),
    GridCase("leading", {"offset": 1}),
    GridCase("linspace"),
    GridCase("uniform_t"),
    GridCase("quadratic"),
    GridCase("quadratic", {"power": 3.5}),
    GridCase("uniform_lam"),
    GridCase("exponential"),
    GridCase("karras"),
    GridCase("karras", {"rho": 3}),
    *(GridCase("ays", {"knots": name}) for name in ("sd15", "sdxl", "svd")),
    GridCase("ays", {"knots": [20.0, 3.0, 0.5, 0.02]}),
    GridCase("tuned"),
    GridCase("tuned", {"knots": [20.0, 3.0, 0.5, 0.02]}),
]
