"""Presets: one choice of solver, steps and grid for each budget, under a name that says what it is for.

A preset is what to take without studying solvers. It is a plan like any other: `make_preset` looks its
choice up in `PRESETS` and asks `make_plan` for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from snowmelt.core import NoiseSchedule
from snowmelt.plans.plan import Plan
from snowmelt.plans.solvers import make_plan

__all__ = ["PRESETS", "Preset", "make_preset"]


class Preset(NamedTuple):
    """The arguments of `make_plan` that a name stands for.

    Attributes:
        summary: what it is for, in one line.
        solver: a key of `snowmelt.plans.SOLVERS`.
        steps: number of time steps; None takes every trained index.
        grid: a key of `snowmelt.plans.GRIDS`.
        options: of the solver or the grid.
    """

    summary: str
    solver: str
    steps: int | None
    grid: str = "trailing"
    options: Mapping[str, Any] = MappingProxyType({})


PRESETS: dict[str, Preset] = {
    "draft": Preset("A first look: shapes and colours.", "ddim", 6, "uniform_lam"),
    "fast": Preset("Good pictures when time matters.", "ddim", 10, "uniform_lam"),
    "balanced": Preset("Hardly to be told from the best.", "ddim", 16, "uniform_lam"),
    "quality": Preset("Nothing more to gain from a deterministic method.", "ddim", 30, "uniform_lam"),
    "ddpm": Preset("Ancestral sampling at every trained step, as the model was trained.", "ddpm", None),
}


def make_preset(schedule: NoiseSchedule, name: str) -> Plan:
    """Return the plan of a preset.

    Args:
        schedule: what the network was trained on; ``ddpm`` needs a discrete one.
        name: a key of `PRESETS`.

    Raises:
        ValueError: there is no such preset, or the schedule has no trained steps to take.

    >>> from snowmelt.core import RectifiedFlow
    >>> make_preset(RectifiedFlow(), "fast").nfe
    10
    >>> make_preset(RectifiedFlow(), "best")
    Traceback (most recent call last):
    ValueError: preset must be one of draft, fast, balanced, quality, ddpm, got 'best'
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    preset = PRESETS[name]
    return make_plan(schedule, preset.solver, preset.steps, preset.grid, **preset.options)
