"""``snowmelt check``: which conventions a network follows, and whether it uses its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.options import ModelOptions, Quiet, with_groups
from snowmelt.errors import InputError

__all__ = ["check_command"]


@with_groups
def check_command(
    model: ModelOptions,
    images: Annotated[
        Path,
        typer.Option("--images", help="Real images: folder, .npz file, or data set such as digits:test."),
    ],
    num_images: Annotated[
        int, typer.Option("--num-images", min=8, help="Number of images to use, spread over the whole set.")
    ] = 64,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the noise.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure on real images whether a model's parameterization, time and range are what it claims.

    The exit code is 0 if they are, and 2 if not, or if the class label changes nothing.
    """
    with user_errors(), figures(as_json) as show:
        from snowmelt.diagnosis import check_checkpoint
        from snowmelt.models import Checkpoint

        report = check_checkpoint(
            Checkpoint.read(model.checkpoint),
            images,
            num_images,
            device=model.resolved_device(),
            use_ema=not model.no_ema,
            seed=seed,
            show_progress=not quiet,
        )
        show(report.to_dict(), report)
        if not report.ok:
            raise InputError(f"{model.checkpoint} is not what it claims to be: see the verdict above")
