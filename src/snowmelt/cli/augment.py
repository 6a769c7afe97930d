"""``snowmelt augment DATA --out DIR``: from unequal classes to a data set, and whether it helps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.options import DryRun, Overrides, Quiet
from snowmelt.errors import InputError

__all__ = ["augment_command"]


def augment_command(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Images in classes: a folder, a list, or a data set such as digits."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the job.")],
    overrides: Overrides = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Such as 30m or 2h, for all of it. Default: 1h."),
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Run this stage again, and all after it.")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="STAGE", help="Run this stage again, and no other.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find out whether generated images help a classifier, and make the data set if they do.

    The stages are split, look, train, tune, generate, select, judge and dataset. If the job is stopped, even
    killed, the same command goes on. augment.yaml in its folder says what each stage does.
    """
    with exit_codes(), figures(as_json) as show:
        from snowmelt.augment import AugmentJob
        from snowmelt.augment.begin import begun, keep
        from snowmelt.augment.running import forecast, run

        if first is not None and only is not None:
            raise InputError("--from and --only exclude each other: give one")
        job = AugmentJob(begun(data, out, budget, overrides or []), out, quiet)
        if dry_run:
            told = forecast(job)
            show(told.figures, told)
            return
        keep(job)
        found = run(job, (lambda text: None) if quiet else typer.echo, first, only)
        show({"folder": out, "stages": found}, None)
