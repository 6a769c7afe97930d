"""What the loop costs: time beyond the bare network calls, for the same method in three libraries."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import diffusers
import torch
from peers import k_diffusion
from torch import Tensor

from snowmelt.core import DiscreteSchedule, make_betas
from snowmelt.plans import integrate, make_plan

__all__ = ["loop_overhead"]

STEPS = 20
SHAPE = (3, 32, 32)
METHODS: dict[
    str, tuple[str, str | None, tuple[str, dict[str, object]]]
] = {  # ours, k-diffusion's, diffusers'
    "Euler": ("ddim", "sample_euler", ("DDIMScheduler", {"clip_sample": False})),
    "DPM-Solver++(2M)": ("dpmpp_2m", "sample_dpmpp_2m", ("DPMSolverMultistepScheduler", {})),
    "UniPC": ("unipc", None, ("UniPCMultistepScheduler", {})),
}


def loop_overhead(batch_sizes: tuple[int, ...] = (1, 16, 256)) -> list[dict[str, object]]:
    """Return microseconds a step beyond the bare calls, per method, batch size and library."""
    rows: list[dict[str, object]] = []
    for method, names in METHODS.items():
        for batch in batch_sizes:
            x = torch.randn(batch, *SHAPE)
            runs = {"bare calls": partial(_bare, x), **_libraries(names, x)}
            medians = _interleaved(runs, repetitions=200 if batch == 1 else 40 if batch == 16 else 8)
            bare = medians.pop("bare calls")
            beyond = {name: 1e6 * (median - bare) / STEPS for name, median in medians.items()}
            rows.append({"method": method, "batch": batch, **beyond})
    return rows


def _network(x: Tensor) -> Tensor:
    return x * 0.5


def _bare(x: Tensor) -> None:
    for _ in range(STEPS):
        _network(x)


def _libraries(
    names: tuple[str, str | None, tuple[str, dict[str, object]]], x: Tensor
) -> dict[str, Callable[[], None]]:
    ours, of_k, (scheduler_name, options) = names
    schedule = DiscreteSchedule(make_betas())
    runs: dict[str, Callable[[], None]] = {}

    plan = make_plan(schedule, ours, STEPS)
    runs["snowmelt"] = lambda: integrate(plan, lambda x_t, level, labels: _network(x_t), x)

    if of_k:
        sample = getattr(k_diffusion(), of_k)
        sigmas = torch.tensor([level.sigma / level.alpha for level in plan.levels])
        runs["k-diffusion"] = lambda: sample(lambda x, sigma: _network(x), x, sigmas, disable=True)

    scheduler = getattr(diffusers, scheduler_name)(timestep_spacing="trailing", **options)

    def with_scheduler() -> None:
        state = x
        for step in scheduler.timesteps:
            state = scheduler.step(_network(state), step, state, return_dict=False)[0]

    def prepared() -> Callable[[], None]:
        scheduler.set_timesteps(STEPS)
        return with_scheduler

    runs["diffusers"] = _Prepared(prepared)
    return runs


class _Prepared:
    """A run whose preparation is not part of its time."""

    def __init__(self, prepare: Callable[[], Callable[[], None]]) -> None:
        self.prepare = prepare

    def __call__(self) -> None:
        self.run()

    def ready(self) -> None:
        self.run = self.prepare()


def _interleaved(runs: dict[str, Callable[[], None]], repetitions: int) -> dict[str, float]:
    """Time the runs in turn, so that a noisy machine treats them alike, and return the median of each."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            if isinstance(run, _Prepared):
                run.ready()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
