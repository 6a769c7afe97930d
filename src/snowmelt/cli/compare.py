"""``snowmelt compare``: plans, numbers of steps, guidance scales and checkpoints side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.errors import InputError

__all__ = ["compare_command"]


def compare_command(
    config_file: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", help="YAML file, such as configs/diffusion/digits_compare.yaml"),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY.SUB=VALUE]...", help="Changes to the file, e.g. compare.num_samples=2000"
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but warnings.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make all cells anew, finished ones too.")
    ] = False,
) -> None:
    """Compare ways to sample on one set of seeds: quality against evaluations and seconds.

    Writes report.html, its pictures, results.json and results.csv. The same command again goes on where it
    was stopped, and makes only the cells that are new or changed.
    """
    with exit_codes():
        from snowmelt.build.comparing import prepare_comparison
        from snowmelt.config.comparing import ComparisonConfig
        from snowmelt.config.load import load_as

        config = load_as(ComparisonConfig, config_file, overrides or [])
        try:
            run = prepare_comparison(config, overwrite=overwrite, quiet=quiet)
        except (ValueError, OSError) as error:  # nothing has been done yet: it is the input
            raise InputError(str(error)) from error
        run()
