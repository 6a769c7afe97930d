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
        summary: what it is for and how many evaluations it takes, in one line.
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


# What the benchmark chose (docs/solvers.md): to few evaluations iPNDM, whose fixed weights are steadiest on
# long steps; to more the corrected polynomial of order 3, in eps against u = sigma / (alpha + sigma)
_FEW: Mapping[str, Any] = MappingProxyType({"order": 3})
_MANY: Mapping[str, Any] = MappingProxyType(
    {"order": 3, "corrector_order": 4, "quantity": "eps", "coordinate": "u"}
)

PRESETS: dict[str, Preset] = {
    "draft": Preset("A first look, 6 evaluations: shapes and tones.", "ipndm", 6, "tuned", _FEW),
    "fast": Preset("Good pictures when time matters, 10 evaluations.", "ipndm", 10, "tuned", _FEW),
    "balanced": Preset(
        "Hardly to be told from the exact solution, 16 evaluations.", "adams", 16, "tuned", _MANY
    ),
    "quality": Preset("As good as a deterministic method gets, 30 evaluations.", "adams", 30, "tuned", _MANY),
    "ddpm": Preset("Ancestral sampling, an evaluation at every trained step (often 1000).", "ddpm", None),
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
    if preset.steps is None and schedule.num_timesteps is None:
        others = ", ".join(other for other, choice in PRESETS.items() if choice.steps is not None)
        raise ValueError(
            f"preset {name!r} takes every trained step, and {type(schedule).__name__}, being continuous, has "
            f"none: take one of {others}, or solver={preset.solver!r} with a number of steps"
        )
    return make_plan(schedule, preset.solver, preset.steps, preset.grid, **preset.options)
