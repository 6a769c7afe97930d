"""Arguments that several commands take, each with one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Checkpoint",
    "ConfigFile",
    "Device",
    "Grid",
    "Guidance",
    "NoEma",
    "Options",
    "Overrides",
    "Solver",
    "Steps",
]

ConfigFile = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        help="YAML file; configs/diffusion has commented ones. - for none, with changes only.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.SUB=VALUE]...", help="Changes to the file, e.g. training.epochs=5"),
]
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
