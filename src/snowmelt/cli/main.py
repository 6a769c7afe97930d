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
from snowmelt.cli.doctor import doctor_command
from snowmelt.cli.edit import edits
from snowmelt.cli.ema import ema_command
from snowmelt.cli.evaluate import evaluate_command
from snowmelt.cli.examples import epilog
from snowmelt.cli.generate import generate
from snowmelt.cli.inspect import inspect_command
from snowmelt.cli.plan import plans
from snowmelt.cli.run import run
from snowmelt.cli.sample import sample_command
from snowmelt.cli.train import train
from snowmelt.cli.tune import tune_command

__all__ = ["app"]

app = typer.Typer(
    help="Train image diffusion models and, strictly apart from that, sample from them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
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


app.command("data", epilog=epilog("data"))(data_command)
app.command("train", epilog=epilog("train"))(train)
app.command("generate", epilog=epilog("generate"))(generate)
app.command("sample", epilog=epilog("sample"))(sample_command)
app.command("run", epilog=epilog("run"))(run)
app.command("distill", epilog=epilog("distill"))(distill_command)
app.command("tune", epilog=epilog("tune"))(tune_command)
app.command("evaluate", epilog=epilog("evaluate"))(evaluate_command)
app.command("compare", epilog=epilog("compare"))(compare_command)
app.command("augment", epilog=epilog("augment"))(augment_command)
app.command("check", epilog=epilog("check"))(check_command)
app.command("import", epilog=epilog("import"))(import_command)
app.command("export", epilog=epilog("export"))(export_command)
app.command("ema", epilog=epilog("ema"))(ema_command)
app.command("inspect", epilog=epilog("inspect"))(inspect_command)
app.command("doctor", epilog=epilog("doctor"))(doctor_command)
app.add_typer(edits, name="edit")
app.add_typer(plans, name="plan")
