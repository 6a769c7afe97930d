"""``snowmelt generate | run | inspect``: what a configuration describes, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.options import ConfigFile, Overrides
from snowmelt.cli.train import train
from snowmelt.errors import InputError

__all__ = ["generate", "inspect", "run"]


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
    with exit_codes():
        from snowmelt.build.generation import prepare_generation
        from snowmelt.config import load_config

        config = load_config(config_file, [*(overrides or []), "mode=generate"])
        try:
            job = prepare_generation(config, quiet=quiet, overwrite=overwrite, dry_run=dry_run)
        except (ValueError, OSError) as error:  # nothing has been done yet: it is the input
            raise InputError(str(error)) from error
        job()


def run(config_file: ConfigFile, overrides: Overrides = None) -> None:
    """Train or generate, as the file's `mode` says."""
    with exit_codes():
        from snowmelt.config import load_config

        mode = load_config(config_file, overrides or []).mode
    (train if mode == "train" else generate)(config_file, overrides)


def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A generated PNG file, or its folder.")],
) -> None:
    """Show how a generated image came about, and the command that makes it again."""
    with exit_codes():
        from snowmelt.build.inspection import inspect

        typer.echo(inspect(path))
