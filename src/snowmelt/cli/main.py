"""The command line: the list of all commands.

Commands import what they need when they run, so ``snowmelt generate`` never loads training code.
"""

from __future__ import annotations

from typing import Annotated

import typer

from snowmelt._version import __version__
from snowmelt.cli.augment import augment_command
from snowmelt.cli.check import check_command
from snowmelt.cli.compare import compare_command
from snowmelt.cli.convert import export_command, import_command
from snowmelt.cli.data import data_command
from snowmelt.cli.distill import distill_command
from snowmelt.cli.edit import edits
from snowmelt.cli.ema import ema_command
from snowmelt.cli.evaluate import evaluate_command
from snowmelt.cli.generate import generate
from snowmelt.cli.inspect import inspect_command
from snowmelt.cli.plan import plans
from snowmelt.cli.run import run
from snowmelt.cli.sample import sample_command
from snowmelt.cli.studio import studio_command
from snowmelt.cli.train import train
from snowmelt.cli.tune import tune_command

__all__ = ["app"]

app = typer.Typer(
    help="Train image diffusion models and, strictly apart from that, sample from them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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


app.command("data")(data_command)
app.command("train")(train)
app.command("generate")(generate)
app.command("sample")(sample_command)
app.command("run")(run)
app.command("distill")(distill_command)
app.command("tune")(tune_command)
app.command("evaluate")(evaluate_command)
app.command("compare")(compare_command)
app.command("augment")(augment_command)
app.command("studio")(studio_command)
app.command("check")(check_command)
app.command("import")(import_command)
app.command("export")(export_command)
app.command("ema")(ema_command)
app.command("inspect")(inspect_command)
app.add_typer(edits, name="edit")
app.add_typer(plans, name="plan")
