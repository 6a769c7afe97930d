"""Where the knots of the grid ``tuned`` come from: ``python benchmarks/knots.py``.

For each number of evaluations, a few solvers and the five knots of their grid are fitted to exact problems
that the benchmark does not contain: other mixtures, other correlated Gaussians, half of the digits with other
guidance, and other noise. As `tuned` treats all schedules alike, two stand for all: one that starts at finite
noise and one at pure noise. What is minimised is the log of the error over that of the best peer on any
schedule: the mean over the problems, and as much again a smooth maximum.

    python benchmarks/knots.py                          all numbers of evaluations, all solvers (half an hour)
    python benchmarks/knots.py --nfe 6 10 --solver "ipndm 3" "adams 3/4 eps u"
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from oracles import GUIDANCE_SCALE, SCHEDULES, CorrelatedGaussian, Mixture, Problem, solve
from oracles import Path as TruePath
from scipy.optimize import minimize
from solvers import Setting, single_thread

from snowmelt.core import NoiseSchedule
from snowmelt.data import load_digits_split
from snowmelt.denoisers import ClassifierFreeGuidance
from snowmelt.plans import Plan, integrate, make_plan
from snowmelt.plans.grids import tuned_knots

NFES = (5, 6, 8, 10, 16, 20, 30)
STARTS = ("EDM", "flow")  # finite and infinite noise at t = 1
SOLVERS: dict[str, dict[str, Any]] = {
    **{f"ipndm {k}": {"solver": "ipndm", "order": k} for k in (2, 3, 4)},
    **{
        f"adams {p}/{c} {quantity} {coordinate}": {
            "solver": "adams",
            "order": p,
            "corrector_order": c,
            "quantity": quantity,
            "coordinate": coordinate,
        }
        for p, c, quantity, coordinate in (
            (2, 3, "eps", "u"),
            (3, 3, "eps", "u"),
            (3, 4, "eps", "u"),
            (2, 2, "x0", "lam"),
            (3, 4, "x0", "lam"),
            (4, 4, "x0", "u"),
            (4, 4, "x0", "angle"),
        )
    },
    "unipc 3": {"solver": "unipc", "order": 3},
    "dpmpp_3m": {"solver": "dpmpp_3m"},
    "deis 3 rhoAB": {"solver": "deis", "order": 3, "variant": "rhoAB", "lower_order_final": False},
    "lms 4": {"solver": "lms", "order": 4},
}
# Where each search starts: the highest and the lowest knot, and Karras's rho between them
FIRST_GUESSES = ((6.0, 0.12, 5.0), (15.0, 0.05, 5.0), (12.0, 0.03, 5.0), (30.0, 0.01, 6.0))


def training(samples: int = 96) -> list[Problem]:
    """Problems of the benchmark's kinds, none of which is in it."""
    generator = torch.Generator().manual_seed(1000)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    chosen = []
    for number in range(2):
        means = 0.8 * noise(8, 2)
        weights = torch.rand(8, dtype=torch.float64, generator=generator) + 0.1
        chosen.append(Problem(f"mixture {number}", Mixture(means, 0.1, weights), noise(192, 2)))
        axes, _ = torch.linalg.qr(noise(16, 16))
        covariance = axes @ torch.diag(torch.logspace(-3, 0, 16, dtype=torch.float64)) @ axes.T
        gaussian = CorrelatedGaussian(0.3 * noise(16), covariance)
        chosen.append(Problem(f"Gaussian {number}", gaussian, noise(64, 16), solution=gaussian.solution))
    pixels, labels = (torch.from_numpy(array) for array in load_digits_split())
    half = torch.randperm(len(pixels), generator=generator)[:900]
    digits = Mixture(pixels[half].double(), 0.1, class_labels=labels[half])
    guided = ClassifierFreeGuidance(digits, GUIDANCE_SCALE - 0.5, 10)
    chosen.append(Problem("digits", digits, noise(samples, 64)))
    chosen.append(Problem("guided digits", guided, noise(samples, 64), torch.arange(samples) % 10))
    return chosen


class Lesson(NamedTuple):
    """A problem, its truth, and the error of the best peer at each number of evaluations."""

    problem: Problem
    path: TruePath
    best_peer: dict[int, float]


def lessons(nfes: Sequence[int]) -> list[Lesson]:
    """Solve the training problems and run the peers on them."""
    result = []
    for problem in training():
        settings = [Setting(problem, path, name) for path in [solve(problem)] for name in SCHEDULES]
        for setting in settings:
            setting.measure_peers(nfes)
        best = {nfe: min(setting.best_peer(nfe)[0] for setting in settings) for nfe in nfes}
        result.append(Lesson(problem, settings[0].path, best))
    return result


def log_ratios(learned: Iterable[Lesson], nfe: int, make: Callable[[NoiseSchedule], Plan]) -> np.ndarray:
    """Return log(our error / the best peer's) on every problem from every start."""
    plans = [make(SCHEDULES[name]) for name in STARTS]
    values = []
    for lesson in learned:
        for plan in plans:
            start = lesson.path.state(plan.levels[0])
            error = lesson.path.error(integrate(plan, lesson.problem.denoise, start))
            values.append(math.log(error / lesson.best_peer[nfe]) if math.isfinite(error) else 20.0)
    return np.array(values)


def objective(values: np.ndarray, sharpness: float = 3.0) -> float:
    """Half the mean, half a smooth maximum; the two mixtures and the two Gaussians share a vote each."""
    weights = np.repeat([0.5, 0.5, 0.5, 0.5, 1.0, 1.0], len(STARTS))
    weights /= weights.sum()
    return float(weights @ values / 2 + math.log(weights @ np.exp(sharpness * values)) / sharpness / 2)


class Found(NamedTuple):
    """What a search ended with; the least score is the best."""

    score: float
    solver: str
    knots: tuple[float, ...]
    worst: float
    mean: float


def tune(learned: Sequence[Lesson], nfe: int, solver: str, evaluations: int, start: Sequence[float]) -> Found:
    """Search the knots by Nelder and Mead's simplex in their logarithms."""

    def values(log_knots: np.ndarray) -> np.ndarray | None:
        # A curve that falls everywhere, so that mixtures of two such curves fall too
        curve = np.polynomial.Polynomial.fit(np.linspace(0, 1, len(log_knots)), log_knots, len(log_knots) - 1)
        if not (curve.deriv()(np.linspace(0, 1, 50)) < -0.2).all():
            return None
        knots = np.exp(log_knots)
        return log_ratios(
            learned,
            nfe,
            lambda schedule: make_plan(schedule, steps=nfe, grid="tuned", knots=knots, **SOLVERS[solver]),
        )

    def loss(log_knots: np.ndarray) -> float:
        found = values(log_knots)
        return 50.0 if found is None else objective(found)

    first = np.log(start)
    simplex = np.vstack([first, first + 0.2 * np.eye(len(first))])
    best = minimize(
        loss,
        first,
        method="Nelder-Mead",
        options={"maxfev": evaluations, "initial_simplex": simplex, "fatol": 2e-3},
    )
    knots = tuple(float(f"{knot:.4g}") for knot in np.exp(best.x))
    ended = values(best.x)
    worst, mean = (math.inf, math.inf) if ended is None else np.exp([ended.max(), ended.mean()]).tolist()
    return Found(best.fun, solver, knots, worst, mean)


def guesses(nfe: int) -> list[Sequence[float]]:
    """Knots to start from: several of Karras's kind, and what the grid has now."""
    share = np.linspace(0, 1, 5)
    karras = [
        (high ** (1 / rho) + share * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        for high, low, rho in FIRST_GUESSES
    ]
    return [*karras, tuned_knots(nfe)]


def search(learned: Sequence[Lesson], nfe: int, solvers: Sequence[str]) -> list[Found]:
    """Try every solver from every guess for a moment, then the best few for longer; the best come first."""
    tries = []
    for solver in solvers:
        tries.append(min(tune(learned, nfe, solver, 1, guess) for guess in guesses(nfe)))
    for evaluations, kept in ((40, 6), (120, 3)):
        tries = [tune(learned, nfe, t.solver, evaluations, t.knots) for t in sorted(tries)[:kept]]
    return sorted(tries)


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nfe", type=int, nargs="+", default=list(NFES))
    parser.add_argument("--solver", nargs="+", choices=SOLVERS, default=list(SOLVERS), help="only these")
    arguments = parser.parse_args()
    single_thread()
    learned = lessons(arguments.nfe)
    for nfe in arguments.nfe:
        for found in search(learned, nfe, arguments.solver):
            print(json.dumps({"nfe": nfe, **found._asdict()}), flush=True)


if __name__ == "__main__":
    main()
