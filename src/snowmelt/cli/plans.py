"""``snowmelt plan list | show``: sampling methods as the tables that they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import exit_codes

__all__ = ["plans"]

plans = typer.Typer(help="Look at sampling methods before you use them.", no_args_is_help=True)


@plans.command("list")
def list_plans() -> None:
    """Show the solvers, time grids and presets, with their options."""
    from snowmelt.build.plans import catalogue

    typer.echo(catalogue())


@plans.command("show")
def show_plan(
    name: Annotated[str, typer.Argument(help="A solver, a preset, or the path of a plan's JSON file.")],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Options of the solver or the grid, e.g. eta=0.5"),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Time steps; 8 for a solver unless told.")] = None,
    grid: Annotated[str | None, typer.Option(help="Time grid; trailing for a solver unless told.")] = None,
    schedule: Annotated[
        str, typer.Option(help="Noise schedule: ddpm-linear, ddpm-cosine, vp, cosine, ve or flow.")
    ] = "ddpm-linear",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Take the noise schedule of this checkpoint's model.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the plan to this file (png, svg, pdf) as well.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the plan to this file as well; - prints it instead.")
    ] = None,
) -> None:
    """Show a sampling method as the table of numbers that it is."""
    with exit_codes():
        from snowmelt.build.plans import build_plan, build_schedule, plot_plan, write_plan

        plan = build_plan(name, build_schedule(schedule, checkpoint), steps, grid, options or ())
        if json is not None and str(json) != "-":
            write_plan(plan, json)
        if plot is not None:
            plot_plan(plan, plot)
        typer.echo(plan.to_json() if str(json) == "-" else str(plan))
