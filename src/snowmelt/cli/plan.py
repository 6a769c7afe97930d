"""``snowmelt plan list | show``: show sampling methods as tables."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snowmelt.cli.errors import exit_codes, user_errors
from snowmelt.cli.examples import epilog
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.options import MethodOptions
from snowmelt.errors import InputError

if TYPE_CHECKING:
    from snowmelt.core import NoiseSchedule
    from snowmelt.models import Checkpoint
    from snowmelt.plans import Method, Preset

__all__ = ["plans"]

plans = typer.Typer(help="Look at sampling methods before you use them.", no_args_is_help=True)


@plans.command("list", epilog=epilog("plan list"))
def list_plans(as_json: AsJson = False) -> None:
    """Show the solvers, time grids and presets, with their options."""
    with exit_codes(), figures(as_json) as show:
        found = catalogue()
        show(found, "\n\n".join("\n".join(_section(title, them)) for title, them in found.items()))


@plans.command("show", epilog=epilog("plan show"))
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
    out: Annotated[
        Path | None, typer.Option(help="Also write the plan to this file, which --method takes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a sampling method as a table of numbers."""
    with user_errors(), figures(as_json) as show:
        import json

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
        if out is not None:
            write_plan(plan, out)
        if plot is not None:
            draw_plan(plan, plot)
        show(json.loads(plan.to_json()), plan)


def _trained(checkpoint: Checkpoint, path: Path) -> tuple[NoiseSchedule, Method | None]:
    """Return the noise schedule of a checkpoint's model, and its own method."""
    if checkpoint.spec is None:
        raise InputError(f"{path} does not state its noise schedule: name one with --schedule")
    return checkpoint.spec.make_schedule(), checkpoint.method


def catalogue() -> dict[str, list[dict[str, str]]]:
    """Return all solvers, grids and presets, each with its name, what it does, and its options."""
    from snowmelt.plans import GRIDS, PRESETS, SOLVERS

    functions: dict[str, Mapping[str, Callable[..., Any]]] = {"solvers": SOLVERS, "grids": GRIDS}
    found = {
        title: [_entry(name, _summary(make), _options(make)) for name, make in listed.items()]
        for title, listed in functions.items()
    }
    found["presets"] = [_entry(name, preset.summary, _choice(preset)) for name, preset in PRESETS.items()]
    return found


def _entry(name: str, summary: str, options: str) -> dict[str, str]:
    return {"name": name, "summary": summary, "options": options}


def _section(title: str, entries: list[dict[str, str]]) -> Iterator[str]:
    width = max(len(entry["name"]) for entry in entries)
    yield title.capitalize()
    for entry in entries:
        yield f"  {entry['name']:{width}}  {entry['summary']}"
        if entry["options"]:
            yield f"  {'':{width}}  [{entry['options']}]"


def _summary(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _options(function: Callable[..., Any]) -> str:
    parameters = list(inspect.signature(function).parameters.values())[2:]
    return ", ".join(f"{item.name}={item.default}" for item in parameters)


def _choice(preset: Preset) -> str:
    steps = f"{preset.steps} steps" if preset.steps != "all" else "every trained step"
    options = "".join(f", {name}={value}" for name, value in preset.options.items())
    return f"{preset.solver}, {steps} on {preset.grid}{options}"
