"""The command line: ``snowmelt train | generate | run | inspect | plan list | plan show``.

Commands import what they need when they run: ``snowmelt generate`` never loads training code.
"""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from snowmelt._version import __version__
from snowmelt.cli_check import check_command
from snowmelt.cli_compare import compare_command
from snowmelt.cli_convert import export_command, import_command
from snowmelt.cli_edit import edits
from snowmelt.cli_evaluate import evaluate_command
from snowmelt.errors import InputError

__all__ = ["app"]

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    help="Train image diffusion models and, strictly apart from that, sample from them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

plans = typer.Typer(help="Look at sampling methods before you use them.", no_args_is_help=True)
app.add_typer(plans, name="plan")

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


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"snowmelt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def train(config_file: ConfigFile, overrides: Overrides = None) -> None:
    """Train a model. Ctrl-C saves the work so far; resume with training.resume.enabled=true."""
    _run(config_file, overrides, "train")


@app.command()
def generate(
    config_file: ConfigFile,
    overrides: Overrides = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but warnings.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove the images that are there, and start anew.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and say what it would take; write nothing.")
    ] = False,
) -> None:
    """Generate images from a checkpoint. Loads no training code and no data.

    The same command again goes on where it was stopped. Start it with torchrun to share the work:
    torchrun --nproc-per-node=2 -m snowmelt generate CONFIG
    """
    _run(config_file, overrides, "generate", quiet=quiet, overwrite=overwrite, dry_run=dry_run)


@app.command()
def run(config_file: ConfigFile, overrides: Overrides = None) -> None:
    """Train or generate, as the file's `mode` says."""
    _run(config_file, overrides, None)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A generated PNG file, or its folder.")],
) -> None:
    """Show how a generated image came about, and the command that makes it again."""
    with _exit_codes():
        from snowmelt.build.inspection import inspect

        typer.echo(inspect(path))


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
    with _exit_codes():
        from snowmelt.build.plans import build_plan, build_schedule, plot_plan, write_plan

        plan = build_plan(name, build_schedule(schedule, checkpoint), steps, grid, options or ())
        if json is not None and str(json) != "-":
            write_plan(plan, json)
        if plot is not None:
            plot_plan(plan, plot)
        typer.echo(plan.to_json() if str(json) == "-" else str(plan))


def _run(config_file: Path, overrides: list[str] | None, mode: str | None, **options: bool) -> None:
    with _exit_codes():
        from snowmelt.config import load_config

        config = load_config(config_file, [*(overrides or []), *([f"mode={mode}"] if mode else [])])
        prepare: Callable[..., Callable[[], object]]
        if config.mode == "train":
            from snowmelt.build.training import prepare_training as prepare
        else:
            from snowmelt.build.generation import prepare_generation as prepare
        try:
            job = prepare(config, **options)
        except (ValueError, OSError) as error:  # nothing has been done yet: it is the input
            raise InputError(str(error)) from error
        job()


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn what a user can mend into one message and exit code 2, Ctrl-C into 130.

    Anything else is a defect or a failure of the machine: it shows its traceback, and Python exits with 1.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"Warning: {message}", err=True)
        try:
            yield
        except InputError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(BAD_INPUT) from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            typer.echo("Error: the disk is full. Make room, and run the same command again.", err=True)
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(INTERRUPTED) from None


app.add_typer(edits, name="edit")
app.command("evaluate")(evaluate_command)
app.command("compare")(compare_command)
app.command("import")(import_command)
app.command("export")(export_command)
app.command("check")(check_command)


if __name__ == "__main__":
    app()
