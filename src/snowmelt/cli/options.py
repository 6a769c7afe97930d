"""Arguments that several commands take, each with one help text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from snowmelt.plans import Method

__all__ = ["Checkpoint", "Device", "Grid", "Guidance", "NoEma", "Options", "Solver", "Steps", "method_from"]

Checkpoint = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="Model file, such as checkpoints/latest.pth")
]
Guidance = Annotated[float, typer.Option("--guidance", help="Guidance scale; 0 is without guidance.")]
Solver = Annotated[str, typer.Option("--solver", help="A solver or a preset of `snowmelt plan list`.")]
Steps = Annotated[
    int | None, typer.Option("--steps", help="Time steps from noise to image; 50 for a solver unless told.")
]
Grid = Annotated[str | None, typer.Option("--grid", help="Time grid; uniform_lam for a solver unless told.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="Option of the solver or the grid; may be repeated."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto.")]
NoEma = Annotated[bool, typer.Option("--no-ema", help="Use the weights themselves, not their average.")]


def method_from(
    solver: str | None, steps: int | None, grid: str | None, options: list[str] | None
) -> Method | None:
    """Return the method that the options say; None if they say nothing.

    >>> str(method_from("ddim", 20, None, ["eta=0.5"]))
    'ddim:20 eta=0.5'
    """
    from snowmelt.plans import Method

    stated = {"steps": steps, "grid": grid}
    words = [f"{name}={value}" for name, value in stated.items() if value is not None]
    words += ["".join(option.split()) for option in options or ()]
    words = [*([solver] if solver is not None else []), *words]
    return Method.parse(" ".join(words)) if words else None
