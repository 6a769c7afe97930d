"""``snowmelt generate CONFIG``: make images from a checkpoint, without optimizer, data or trainer.

The network is built from the checkpoint alone. The file's `model` section is needed only for weights that
come without their configuration.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.figures import AsJson, Show, figures
from snowmelt.cli.options import ConfigFile, DryRun, Overrides, Overwrite, Quiet
from snowmelt.errors import as_input_errors
from snowmelt.text import counted

if TYPE_CHECKING:
    from snowmelt.config import Config

__all__ = ["generate", "generate_from"]


def generate(
    config_file: ConfigFile,
    overrides: Overrides = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Generate images from a checkpoint. Loads no training code and no data.

    If it is stopped, the same command continues. Start it with torchrun to share the work:
    torchrun --nproc-per-node=2 -m snowmelt generate CONFIG
    """
    with exit_codes(), figures(as_json) as show:
        from snowmelt.config import load_config

        config = load_config(config_file, [*(overrides or []), "mode=generate"])
        generate_from(config, show, quiet=quiet, overwrite=overwrite, dry_run=dry_run)


def generate_from(
    config: Config, show: Show, *, quiet: bool = False, overwrite: bool = False, dry_run: bool = False
) -> None:
    """Check everything that can fail, then generate the images of a configuration."""
    from snowmelt.config import save_config
    from snowmelt.formats import GRID_NAME
    from snowmelt.generation import forecast, inspect, join_team
    from snowmelt.generation.configured import build_job

    with as_input_errors():  # nothing has been done yet
        team = join_team()
        quiet = quiet or team.rank > 0
        with warnings.catch_warnings():
            if team.rank > 0:  # the first process says it for all
                warnings.simplefilter("ignore")
            job = build_job(config, team, overwrite=overwrite, quiet=quiet)
        job.check()
    if dry_run:
        told = forecast(job)
        if team.rank == 0:
            show(told.figures, told)
        return
    if team.rank == 0:
        save_config(config, job.folder / "config.yaml")
    if not quiet:
        typer.echo(f"Generating {counted(job.num_samples, 'sample')} with {job.sampler.plan!r}")
    job.run()
    if not quiet and job.grid_nrow is not None:
        typer.echo(f"Saved generated grid to: {job.folder / GRID_NAME}")
    if not quiet and job.writer is not None:
        typer.echo(f"Saved {counted(job.num_samples, 'individual sample')} to: {job.folder}")
    if team.rank == 0:
        show(lambda: inspect(job.folder).figures, None)
