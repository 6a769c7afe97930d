"""How accurate each number of network calls is, ours beside the peers: ``make bench-solvers``.

Every method starts from the same noise, and its images are compared with where that noise flows exactly
(`oracles`): the error is the RMS difference relative to the spread of the images. Ours is one choice per
number of function evaluations (`CHOICES`), the same on every problem. A peer may take its best method
and its best grid anew for every problem, schedule and number of evaluations, which favours the peers. One
that cannot start at pure noise (alpha = 0) is given the exact state at the highest noise it can take.

    make bench-solvers                      docs/solvers.md, its plot, its numbers and the presets' pictures
    python benchmarks/solvers.py --pictures the pictures alone
    python benchmarks/solvers.py --search   rank everything registered
    python benchmarks/knots.py               find the knots of the grid "tuned" on other problems
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import math
import multiprocessing
import statistics
import time
import typing
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from oracles import SCHEDULES, Problem, problems, ring, solve
from oracles import Path as TruePath
from overhead import loop_overhead
from peers import PEER_GRIDS, PEERS, STOCHASTIC_PEERS, Peer
from torch import Tensor

from snowmelt import DiffusionSampler
from snowmelt.core import Level, NoiseSchedule
from snowmelt.denoisers import Denoiser
from snowmelt.images import save_grid
from snowmelt.plans import GRIDS, PRESETS, SOLVERS, Plan, integrate, make_plan, make_preset

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
CHECKPOINT = ROOT / "outputs" / "digits" / "checkpoints" / "latest.pth"
NFES = (4, 5, 6, 8, 10, 12, 15, 20, 30, 50)
GOAL = range(5, 21)
START, END = "<!-- measured: start -->", "<!-- measured: end -->"


# -- ours ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A solver on a grid, with options of either."""

    solver: str
    grid: str
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options)
        return f"{self.solver} on {self.grid}" + (f" ({options})" if options else "")

    def plan(self, schedule: NoiseSchedule, nfe: int) -> Plan | None:
        """Return the plan with the most steps that calls the network at most `nfe` times, if there is one."""
        steps = nfe
        while steps > 0:
            try:
                plan = make_plan(schedule, self.solver, steps, self.grid, **dict(self.options))
            except ValueError:  # options that do not go together, a grid that this schedule does not have
                return None
            if plan.nfe <= nfe:
                return plan
            steps = min(steps - 1, nfe * steps // plan.nfe + 1)
        return None


def _candidate(solver: str, grid: str, **options: Any) -> Candidate:
    return Candidate(solver, grid, tuple(options.items()))


# One choice per number of evaluations, for every problem; benchmarks/knots.py found them on other problems
_FEW = _candidate("ipndm", "tuned", order=3)
_MANY = _candidate("adams", "tuned", order=3, corrector_order=4, quantity="eps", coordinate="u")
CHOICES: dict[int, Candidate] = {nfe: _FEW if nfe <= 12 else _MANY for nfe in NFES}


def everything() -> list[Candidate]:
    """Every registered deterministic solver, with all values of its discrete options, on every grid."""
    left_out = {"leading", "linspace", "uniform_t", "exponential"}  # no noise, not everywhere, other names
    rhos = [(("rho", rho),) for rho in (2.0, 3.0, 5.0, 7.0)]
    grids = [
        (name, options)
        for name in GRIDS
        if name not in left_out
        for options in (rhos if name == "karras" else [()])
    ]
    return [
        Candidate(solver, grid, (*options, *grid_options))
        for solver in SOLVERS
        for options in _option_choices(solver)
        for grid, grid_options in grids
    ]


def _option_choices(solver: str) -> Iterator[tuple[tuple[str, Any], ...]]:
    """Yield every combination of a solver's options that are literals, switches or orders."""
    function = SOLVERS[solver]
    hints = typing.get_type_hints(function)
    choices: dict[str, Sequence[Any]] = {}
    for name in list(inspect.signature(function).parameters)[2:]:
        if typing.get_origin(hints[name]) is typing.Literal:
            choices[name] = typing.get_args(hints[name])
        elif hints[name] is bool:
            choices[name] = (True, False)
        elif hints[name] is int and "order" in name:
            choices[name] = (1, 2, 3, 4)
    for values in itertools.product(*choices.values()):
        yield tuple(zip(choices, values, strict=True))


# -- measuring -----------------------------------------------------------------------------------------

Errors = dict[str, dict[int, float]]  # name of a method -> NFE -> error


@dataclass(frozen=True)
class Setting:
    """A problem on one schedule, and what the methods made of it."""

    problem: Problem
    path: TruePath
    schedule_name: str
    ours: Errors = field(default_factory=dict)
    peers: Errors = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The problem and the schedule."""
        return f"{self.problem.name}, {self.schedule_name}"

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule itself."""
        return self.problem.schedules[self.schedule_name]

    def best_peer(self, nfe: int) -> tuple[float, str]:
        """Return the error of the best peer, and which it was."""
        return min((errors[nfe], name) for name, errors in self.peers.items() if nfe in errors)

    def best_grids(self) -> dict[str, dict[int, tuple[float, str]]]:
        """Return each peer's error, and the grid that gave it."""
        best: dict[str, dict[int, tuple[float, str]]] = {}
        for name, errors in self.peers.items():
            method, _, grid = name.rpartition(", ")
            for nfe, error in errors.items():
                row = best.setdefault(method, {})
                row[nfe] = min(row.get(nfe, (math.inf, "")), (float(f"{error:.4g}"), grid))
        return best

    def ratio(self, candidate: str, nfe: int) -> float:
        """Return our error over the best peer's: below 1 is better."""
        return self.ours.get(candidate, {}).get(nfe, math.inf) / self.best_peer(nfe)[0]

    def measure_peers(self, nfes: Iterable[int]) -> None:
        """Run every peer on every grid."""
        for (name, peer), grid, nfe in itertools.product(PEERS.items(), PEER_GRIDS, nfes):
            error = self._peer_error(peer, grid, nfe)
            if math.isfinite(error):
                self.peers.setdefault(f"{name}, {grid}", {})[nfe] = error

    def measure_ours(self, candidates: Mapping[int, Iterable[Candidate]]) -> None:
        """Run each number of evaluations' candidates."""
        for nfe, some in candidates.items():
            for candidate in some:
                plan = candidate.plan(self.schedule, nfe)
                if plan is not None and not plan.stochastic and plan.levels[0].t == 1.0:
                    images = integrate(plan, self.problem.denoise, self.path.state(plan.levels[0]))
                    self.ours.setdefault(str(candidate), {})[nfe] = self.path.error(images)

    def _peer_error(self, peer: Peer, grid: str, nfe: int) -> float:
        sigmas = peer.sigmas(self.schedule, grid, nfe)
        if not sigmas:
            return math.inf
        start = self.schedule(self.schedule.t_max)
        x = self.path.state(start) / start.alpha
        return self.path.error(peer.run(in_frame(self.problem.denoise, self.schedule), x, sigmas))


def in_frame(denoiser: Denoiser, schedule: NoiseSchedule) -> Any:
    """Return the denoiser as the peers call it: (x/alpha, sigma/alpha) -> image."""

    @cache
    def level(sigma: float) -> Level[float]:
        return schedule(schedule.t_of_lam(max(-math.log(sigma), schedule(1.0).lam)))

    return lambda x, sigma: denoiser(level(sigma).alpha * x, level(sigma))


class Trained:
    """The demo's network as a float64 denoiser; it computes in float32."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.model = DiffusionSampler.from_pretrained(checkpoint, steps=1).model.eval()  # type: ignore[attr-defined]

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        return self.model(x_t.float(), level, class_labels).double()

    def __reduce__(self) -> tuple[type[Trained], tuple[Path]]:
        """Travel to another process as the file's name: the model itself cannot be pickled."""
        return Trained, (self.checkpoint,)


def trained_problem(samples: int = 32) -> tuple[Problem, TruePath] | None:
    """Return the demo's network, conditional, and its own very fine solution; None before ``make demo``."""
    if not CHECKPOINT.exists():
        return None
    denoiser = Trained(CHECKPOINT)
    noise = torch.randn(
        samples, *denoiser.model.image_shape, generator=torch.Generator().manual_seed(1)
    ).double()
    schedule = denoiser.model.schedule
    problem = Problem("trained network", denoiser, noise, torch.arange(samples) % 10, {"DDPM": schedule})
    start = schedule(1.0)
    # Three outputs a step, even in lam down to the lowest trained level: the truth for a network
    coarse, fine = (
        integrate(make_plan(schedule, "adams", steps, "uniform_lam", order=3), problem.denoise, noise)
        for steps in (1000, 2000)
    )
    spread = fine.std(0).square().mean().sqrt()
    difference = ((fine - coarse).square().mean().sqrt() / spread).item()
    return problem, TruePath({start.sigma / start.alpha: noise / start.alpha}, noise, fine, difference)


def settings(samples: int, only: str = "") -> list[Setting]:
    """Solve the problems and lay each out on its schedules."""
    chosen = [problem for problem in problems(samples) if only in problem.name]
    with multiprocessing.Pool(2, single_thread) as pool:
        solved = list(zip(chosen, pool.map(solve, chosen, chunksize=1), strict=True))
    if only in "trained network" and (trained := trained_problem()):
        solved.append(trained)
    return [Setting(problem, path, name) for problem, path in solved for name in problem.schedules]


def single_thread() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    warnings.simplefilter("ignore")


def _measure(job: tuple[Setting, Mapping[int, Iterable[Candidate]], Iterable[int]]) -> tuple[Errors, Errors]:
    setting, candidates, peers_at = job
    setting.measure_peers(peers_at)
    setting.measure_ours(candidates)
    return setting.ours, setting.peers


def measure(
    chosen: Sequence[Setting], candidates: Mapping[int, Iterable[Candidate]], peers_at: Iterable[int] = ()
) -> None:
    """Run candidates and peers on the settings, two processes of one thread each; results go into them."""
    jobs = [(setting, candidates, peers_at) for setting in chosen]
    # The dearest first, so that both processes end together
    order = sorted(
        range(len(jobs)), key=lambda i: -("digits" in chosen[i].name) - ("guided" in chosen[i].name)
    )
    with multiprocessing.Pool(2, single_thread) as pool:
        results = pool.map(_measure, [jobs[i] for i in order], chunksize=1)
    for i, (ours, peers) in zip(order, results, strict=True):
        for name, errors in ours.items():
            chosen[i].ours.setdefault(name, {}).update(errors)
        chosen[i].peers.update(peers)


# -- searching -----------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Rank:
    """A candidate's ratios to the best peer over all settings: the worst, and the geometric mean."""

    worst: float
    mean: float
    candidate: str


def ranked(chosen: Sequence[Setting], nfe: int) -> list[Rank]:
    """Return all candidates that were measured on all settings, those with the best worst ratio first."""
    names = set.intersection(*({n for n, e in s.ours.items() if nfe in e} for s in chosen))
    return sorted(_rank(chosen, name, nfe) for name in names)


def _rank(chosen: Sequence[Setting], name: str, nfe: int) -> Rank:
    ratios = [setting.ratio(name, nfe) for setting in chosen]
    return Rank(max(ratios), geometric_mean(ratios), name)


def fixed_peer(chosen: Sequence[Setting], nfe: int) -> Rank:
    """Return the best peer that keeps one method and one grid on all settings, by geometric mean."""
    names = set.intersection(*({n for n, e in s.peers.items() if nfe in e} for s in chosen))
    ranks = []
    for name in names:
        ratios = [setting.peers[name][nfe] / setting.best_peer(nfe)[0] for setting in chosen]
        ranks.append(Rank(max(ratios), geometric_mean(ratios), name))
    return min(ranks, key=lambda rank: rank.mean)


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean; inf if any value is."""
    return math.inf if math.inf in values else statistics.geometric_mean(max(v, 1e-15) for v in values)


def search(nfes: Sequence[int], samples: int, only: str, keep: int, shown: int) -> None:
    """Rank everything; what does badly on the two cheap problems is not tried on the others."""
    chosen = settings(samples, only)
    cheap = [s for s in chosen if s.problem.name in ("2-D mixture", "Gaussian")]
    dear = [s for s in chosen if s not in cheap]
    by_name = {str(candidate): candidate for candidate in everything()}
    print(f"{len(by_name)} candidates on {len(chosen)} settings", flush=True)
    survivors: dict[int, list[Candidate]] = {nfe: list(by_name.values()) for nfe in nfes}
    if cheap:
        measure(cheap, survivors, nfes)
        survivors = {nfe: [by_name[name] for name in _survivors(cheap, nfe, keep)] for nfe in nfes}
    if dear:
        measure(dear, survivors, nfes)
    for nfe in nfes:
        ranks = ranked(chosen, nfe)
        for title, order in (("worst", ranks), ("mean", sorted(ranks, key=lambda rank: rank.mean))):
            print(f"\nNFE {nfe}, by {title} ratio to the best peer\n  worst   mean  candidate")
            for rank in order[:shown]:
                print(f"{rank.worst:7.2f} {rank.mean:6.2f}  {rank.candidate}", flush=True)


def _survivors(chosen: Sequence[Setting], nfe: int, keep: int) -> list[str]:
    ranks = ranked(chosen, nfe)
    by_mean = sorted(ranks, key=lambda rank: rank.mean)
    names = [rank.candidate for rank in (*ranks[: keep // 2], *by_mean[: keep // 2])]
    return list(dict.fromkeys(names))


# -- stochastic methods --------------------------------------------------------------------------------

EXACT = "ten draws of the data, at most"
STOCHASTIC_GRIDS = ("trailing", "uniform_lam", "karras", "quadratic", "tuned")


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Return the root of 2 E|X - Y| - E|X - X'| - E|Y - Y'|, unbiased under the root (0 if below 0)."""

    def within(z: Tensor) -> Tensor:
        return torch.pdist(z).mean()

    squared = 2 * torch.cdist(x, y).mean() - within(x) - within(y)
    return math.sqrt(max(0.0, squared.item()))


def stochastic(nfes: Sequence[int] = (10, 20, 50), num: int = 3000) -> dict[str, dict[int, float]]:
    """Return each stochastic method's energy distance to the 2-D mixture on DDPM's schedule, at best grid.

    The first row is the largest distance that ten draws of the data itself show: below it all are equal.
    """
    data, schedule = ring(), SCHEDULES["DDPM"]
    truth = data.draw(num, torch.Generator().manual_seed(1))
    start = schedule(1.0)
    noise = torch.randn(num, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x = start.alpha * data.draw(num, torch.Generator().manual_seed(3)) + start.sigma * noise
    draws = (data.draw(num, torch.Generator().manual_seed(seed)) for seed in range(10, 20))
    floor = max(energy_distance(truth, draw) for draw in draws)
    table = {EXACT: dict.fromkeys(nfes, floor)}

    def note(name: str, nfe: int, images: Tensor) -> None:
        if images.isfinite().all():
            best = table.setdefault(name, {})
            best[nfe] = min(best.get(nfe, math.inf), energy_distance(truth, images))

    for nfe in nfes:
        for solver, grid in itertools.product(SOLVERS, STOCHASTIC_GRIDS):
            plan = Candidate(solver, grid).plan(schedule, nfe)
            if plan is not None and plan.stochastic:
                torch.manual_seed(5)
                note(f"snowmelt/{solver}", nfe, integrate(plan, data, x))
        for (name, peer), grid in itertools.product(STOCHASTIC_PEERS.items(), PEER_GRIDS):
            if sigmas := peer.sigmas(schedule, grid, nfe):
                torch.manual_seed(5)
                note(name, nfe, peer.run(in_frame(data, schedule), x / start.alpha, sigmas))
    return table


# -- through the public face ---------------------------------------------------------------------------

PICTURE_GUIDANCE = 2.0


def robustness(
    guidance_scales: Sequence[float] = (2.0, 3.0), samples: int = 30
) -> dict[str, dict[str, dict[int, float]]]:
    """Return, by guidance scale and method, the error of the presets' plans and of DPM-Solver++(2M).

    The demo's network samples as users let it: guided, its images clipped. The truth is DPM-Solver++(2M) at
    400 steps. Empty before ``make demo``.
    """
    if not CHECKPOINT.exists():
        return {}
    loaded = DiffusionSampler.from_pretrained(CHECKPOINT, steps=1)
    schedule = loaded.model.schedule
    labels, seeds = [i % 10 for i in range(samples)], range(samples)

    def images(plan: Plan, scale: float) -> Tensor:
        sampler = DiffusionSampler(loaded.model, ema=loaded.ema, plan=plan)
        return sampler.sample(samples, labels, scale, seeds=seeds).double()

    presets = {
        preset.steps: make_preset(schedule, name)
        for name, preset in PRESETS.items()
        if isinstance(preset.steps, int)
    }
    table: dict[str, dict[str, dict[int, float]]] = {}
    for scale in guidance_scales:
        truth = images(make_plan(schedule, "dpmpp_2m", 400, "uniform_lam"), scale)
        path = TruePath({}, truth, truth, 0.0)
        rows = table.setdefault(f"{scale:g}", {})
        rows["preset"] = {nfe: path.error(images(plan, scale)) for nfe, plan in presets.items()}
        for grid in ("trailing", "uniform_lam", "karras"):
            plans = {nfe: make_plan(schedule, "dpmpp_2m", nfe, grid) for nfe in presets}
            rows[f"dpmpp_2m on {grid}"] = {nfe: path.error(images(p, scale)) for nfe, p in plans.items()}
    return table


def pictures() -> None:
    """Draw what each preset makes of the same seeds with the demo's network, if it is there."""
    if not CHECKPOINT.exists():
        return
    for name in PRESETS:
        sampler = DiffusionSampler.from_pretrained(CHECKPOINT, preset=name)
        samples, labels = sampler.sample_by_class(2, 10, PICTURE_GUIDANCE, seeds=range(20))
        order = [*range(0, 20, 2), *range(1, 20, 2)]
        captions = [f"{labels[i]}" for i in order]
        save_grid(samples[order], DOCS / "images" / f"preset_{name}.png", nrow=10, captions=captions, scale=6)


# -- reporting -----------------------------------------------------------------------------------------


def report(samples: int) -> None:
    """Measure and write docs/solvers.md, .png and .json."""
    began = time.perf_counter()
    chosen = settings(samples)
    measure(chosen, {nfe: [CHOICES[nfe]] for nfe in NFES}, NFES)
    energy = stochastic()
    overhead = loop_overhead()
    through_the_face = robustness()
    pictures()
    seconds = time.perf_counter() - began
    text = "\n\n".join(
        [
            f"Measured by `make bench-solvers` in {seconds:.0f} s; all numbers are in `solvers.json`.",
            summary(chosen),
            "![error against evaluations](solvers.png)",
            details(chosen),
            truths(chosen),
            sampled(through_the_face),
            energies(energy),
            overheads(overhead),
        ]
    )
    DOCS.mkdir(exist_ok=True)
    page = DOCS / "solvers.md"
    page.write_text(replaced(page.read_text() if page.exists() else "# Solvers, measured\n\n", text))
    results = {
        "choices": {nfe: str(choice) for nfe, choice in CHOICES.items()},
        "settings": [
            {"problem": s.problem.name, "schedule": s.schedule_name, "ours": s.ours, "peers": s.best_grids()}
            for s in chosen
        ],
        "energy": energy,
        "overhead": overhead,
        "guided and clipped": through_the_face,
    }
    (DOCS / "solvers.json").write_text(json.dumps(results) + "\n")
    plot(chosen, DOCS / "solvers.png")
    print(text)


def replaced(page: str, text: str) -> str:
    """Return the page with `text` between its marks; what people wrote around them stays."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before.rstrip()}\n\n{START}\n\n{text}\n\n{END}{after.rstrip()}\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary(chosen: Sequence[Setting]) -> str:
    """One row per number of evaluations: our choice, and its ratios to the best peer of each setting."""
    rows = []
    for nfe in NFES:
        name = str(CHOICES[nfe])
        rank = _rank(chosen, name, nfe)
        where = max(chosen, key=lambda setting: setting.ratio(name, nfe)).name
        peer = fixed_peer(chosen, nfe)
        met = "" if nfe not in GOAL else "yes" if rank.worst <= 1 and rank.mean <= 0.5 else "no"
        rival = [peer.candidate, f"{peer.mean:.2f}", f"{peer.worst:.2f}"]
        rows.append([str(nfe), name, f"{rank.mean:.2f}", f"{rank.worst:.2f}", where, met, *rival])
    header = ["NFE", "our choice", "geometric mean", "worst", "worst on", "goal met"]
    header += ["best single peer", "its geometric mean", "its worst"]
    return (
        "Our error over that of the best peer, which chooses method and grid anew for every cell. The goal: "
        "at most 1 everywhere and 0.5 in the geometric mean, with one choice per NFE. On the right the peer "
        "that does best under our own rule, one method and grid per NFE, against the same best peers.\n\n"
        + _table(header, rows)
    )


def details(chosen: Sequence[Setting]) -> str:
    """One row per setting: our error, the best peer's, and the ratio."""
    rows = []
    for setting in chosen:
        cells = []
        for nfe in NFES:
            name = str(CHOICES[nfe])
            ours = setting.ours.get(name, {}).get(nfe, math.inf)
            cells.append(f"{ours:.2g} / {setting.best_peer(nfe)[0]:.2g} = {setting.ratio(name, nfe):.2f}")
        rows.append([setting.name, *cells])
    rows.append(
        ["geometric mean", *(f"**{_rank(chosen, str(CHOICES[nfe]), nfe).mean:.2f}**" for nfe in NFES)]
    )
    return "Ours / best peer = ratio.\n\n" + _table(["problem, schedule", *map(str, NFES)], rows)


def truths(chosen: Sequence[Setting]) -> str:
    """How well two ways to compute the truth agree."""
    known = {setting.problem.name: setting.path.disagreement for setting in chosen}
    rows = [[name, f"{value:.1e}"] for name, value in known.items()]
    return "Two computations of the truth differ by\n\n" + _table(["problem", "relative RMS"], rows)


def sampled(table: dict[str, dict[str, dict[int, float]]]) -> str:
    """One row per guidance scale and method."""
    nfes = sorted({nfe for rows in table.values() for row in rows.values() for nfe in row})
    rows = [
        [scale, name, *(f"{row[nfe]:.4f}" for nfe in nfes)]
        for scale, methods in table.items()
        for name, row in methods.items()
    ]
    return (
        "Error of the demo's network, guided and clipped to [-1, 1], against DPM-Solver++(2M) at 400 "
        "steps.\n\n" + _table(["guidance scale", "method", *map(str, nfes)], rows)
    )


def energies(table: dict[str, dict[int, float]]) -> str:
    """One row per stochastic method."""
    nfes = sorted({nfe for row in table.values() for nfe in row})
    floor = table[EXACT]

    def cell(row: dict[int, float], nfe: int) -> str:
        if nfe not in row:
            return ""
        return f"{row[nfe]:.3f}" if row is floor or row[nfe] > floor[nfe] else "exact"

    rows = [[name, *(cell(row, nfe) for nfe in nfes)] for name, row in table.items()]
    return "Energy distance of stochastic methods on the 2-D mixture, each at its best grid.\n\n" + _table(
        ["method", *map(str, nfes)], rows
    )


def overheads(rows: Sequence[dict[str, object]]) -> str:
    """One row per method and batch size."""
    libraries = ("snowmelt", "k-diffusion", "diffusers")
    cells = []
    for row in rows:
        times = [float(str(row[name])) if name in row else math.inf for name in libraries]
        shown = ["" if math.isinf(value) else f"{value:.0f}" for value in times]
        cells.append([str(row["method"]), str(row["batch"]), *shown, f"{times[0] / min(times[1:]):.2f}"])
    share = max(float(str(row["snowmelt"])) for row in rows if row["batch"] == 16) / 10_000
    return (
        "Loop overhead in microseconds a step (3x32x32, float32, one thread); the last column is ours over "
        f"the leanest peer's. At batch 16 ours is at most {share:.2%} of a network call of 10 ms.\n\n"
        + _table(["method", "batch", *libraries, "ratio"], cells)
    )


def plot(chosen: Sequence[Setting], path: Path) -> None:
    """Error against evaluations, one panel a setting: every peer grey, the best of them black, ours blue."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(setting.problem.name for setting in chosen))
    figure, axes = plt.subplots(
        len(names), len(SCHEDULES), figsize=(13, 2.6 * len(names)), sharex=True, squeeze=False
    )
    for panel in axes.flat:
        panel.set_visible(False)
    for setting in chosen:
        panel = axes[names.index(setting.problem.name), list(SCHEDULES).index(setting.schedule_name)]
        panel.set_visible(True)
        for errors in setting.peers.values():
            panel.loglog(list(errors), list(errors.values()), color="0.85", linewidth=0.6)
        panel.loglog(NFES, [setting.best_peer(n)[0] for n in NFES], "k-", label="best peer at each NFE")
        ours = [setting.ours.get(str(CHOICES[n]), {}).get(n, math.nan) for n in NFES]
        panel.loglog(NFES, ours, "o-", color="tab:blue", markersize=3, label="snowmelt")
        low = min(*ours, *(setting.best_peer(n)[0] for n in NFES))
        panel.set_ylim(low / 2, 2)
        panel.set_title(setting.name, fontsize=9)
        panel.set_xticks(NFES, [str(n) for n in NFES], fontsize=7)
        panel.minorticks_off()
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel("network evaluations")
    figure.supylabel("RMS error relative to the data's spread")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Report, draw or search."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", action="store_true", help="draw the presets' pictures only")
    parser.add_argument("--search", action="store_true", help="rank every registered combination")
    parser.add_argument("--nfe", type=int, nargs="+", default=list(NFES), help="for --search")
    parser.add_argument("--samples", type=int, default=64, help="of the digits")
    parser.add_argument("--only", default="", help="search only problems whose name contains this")
    parser.add_argument(
        "--keep", type=int, default=300, help="candidates per NFE that reach the dear problems"
    )
    parser.add_argument("--shown", type=int, default=8, help="rows of each ranking")
    arguments = parser.parse_args()
    single_thread()
    if arguments.pictures:
        pictures()
    elif arguments.search:
        search(arguments.nfe, arguments.samples, arguments.only, arguments.keep, arguments.shown)
    else:
        report(arguments.samples)


if __name__ == "__main__":
    main()
