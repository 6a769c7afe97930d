"""Presets: one choice of solver, steps and grid for each budget, under a name that says what it is for.

A preset is what to take without studying solvers. `Method` looks its choice up in `PRESETS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

__all__ = ["PRESETS", "Preset"]


class Preset(NamedTuple):
    """The arguments of `Method` that a name stands for.

    Attributes:
        summary: what it is for and how many evaluations it takes, in one line.
        solver: a key of `snowmelt.plans.SOLVERS`.
        steps: number of time steps; ``"all"`` takes every trained index.
        grid: a key of `snowmelt.plans.GRIDS`.
        options: of the solver or the grid.
    """

    summary: str
    solver: str
    steps: int | Literal["all"]
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
    "ddpm": Preset("Ancestral sampling, an evaluation at every trained step (often 1000).", "ddpm", "all"),
}
