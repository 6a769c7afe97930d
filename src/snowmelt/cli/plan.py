"""``snowmelt plan list | show``: show sampling methods as tables."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snowmelt.cli.errors import exit_codes, user_errors
from snowmelt.cli.options import MethodOptions
from snowmelt.errors import InputError

if TYPE_CHECKING:
    from snowmelt.core import NoiseSchedule
    from snowmelt.models import Checkpoint
    from snowmelt.plans import Method, Preset

__all__ = ["plans"]

plans = typer.Typer(help="Look at sampling methods before you use them.", no_args_is_help=True)


@plans.command("list")
def list_plans() -> None:
    """Show the solvers, time grids and presets, with their options."""
    with exit_codes():
        typer.echo(catalogue())


@plans.command("show")
def show_plan(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[METHOD]",
            help="ddim:8, balanced, plan.json, ... Default: balanced.",
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Options of the solver or the grid, e.g. eta=0.5"),
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", metavar="N", help="Time steps from noise to image, or all.")
    ] = None,
    grid: Annotated[str | None, typer.Option("--grid", help="Time grid.")] = None,
    schedule: Annotated[
        str,
        typer.Option(help="Noise schedule: ddpm-linear, ddpm-cosine, vp, cosine, ve, edm or flow."),
    ] = "ddpm-linear",
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Use the noise schedule and the method of this checkpoint."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the plan to this file (png, svg, pdf).")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Also write the plan to this file; - prints it instead.")
    ] = None,
) -> None:
    """Show a sampling method as a table of numbers."""
    with user_errors():
        from snowmelt.core import make_schedule
        from snowmelt.models import Checkpoint
        from snowmelt.plans import Method, write_plan
        from snowmelt.plans.drawing import draw_plan

        text = MethodOptions(name, None, steps, grid, options).text()
        if checkpoint is None:
            noise, own = make_schedule(schedule), None
        else:
            noise, own = _trained(Checkpoint.read(checkpoint), checkpoint)
        plan = Method.of(text, default=own).plan(noise)
        if json is not None and str(json) != "-":
            write_plan(plan, json)
        if plot is not None:
            draw_plan(plan, plot)
        typer.echo(plan.to_json() if str(json) == "-" else str(plan))


def _trained(checkpoint: Checkpoint, path: Path) -> tuple[NoiseSchedule, Method | None]:
    """Return the noise schedule of a checkpoint's model, and its own method."""
    if checkpoint.spec is None:
        raise InputError(f"{path} does not state its noise schedule: name one with --schedule")
    return checkpoint.spec.make_schedule(), checkpoint.method


def catalogue() -> str:
    """Return a text with all solvers, grids and presets."""
    from snowmelt.plans import GRIDS, PRESETS, SOLVERS

    solvers = [(name, _summary(make), _options(make)) for name, make in SOLVERS.items()]
    grids = [(name, _summary(place), _options(place)) for name, place in GRIDS.items()]
    presets = [(name, preset.summary, _choice(preset)) for name, preset in PRESETS.items()]
    sections = {"Solvers": solvers, "Grids": grids, "Presets": presets}
    return "\n\n".join("\n".join(_section(title, entries)) for title, entries in sections.items())


def _section(title: str, entries: list[tuple[str, str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _, _ in entries)
    yield title
    for name, summary, details in entries:
        yield f"  {name:{width}}  {summary}"
        if details:
            yield f"  {'':{width}}  [{details}]"


def _summary(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _options(function: Callable[..., Any]) -> str:
    parameters = list(inspect.signature(function).parameters.values())[2:]
    return ", ".join(f"{item.name}={item.default}" for item in parameters)


def _choice(preset: Preset) -> str:
    steps = f"{preset.steps} steps" if preset.steps != "all" else "every trained step"
    options = "".join(f", {name}={value}" for name, value in preset.options.items())
    return f"{preset.solver}, {steps} on {preset.grid}{options}"
