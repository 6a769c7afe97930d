"""``snowmelt check``: which conventions a network follows, and whether it uses its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.options import ModelOptions, with_groups
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
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file; - prints them instead.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Measure on real images whether a model's parameterization, time and range are what it claims.

    The exit code is 0 if they are, and 2 if not, or if the class label changes nothing.
    """
    with user_errors():
        from json import dumps

        from snowmelt.diagnosis import check_checkpoint
        from snowmelt.files import atomic_write, check_writable
        from snowmelt.models import Checkpoint

        if json is not None and str(json) != "-":
            check_writable(json.parent)
        report = check_checkpoint(
            Checkpoint.read(model.checkpoint),
            images,
            num_images,
            device=model.resolved_device(),
            use_ema=not model.no_ema,
            seed=seed,
            show_progress=not quiet,
        )
        text = dumps(report.to_dict(), indent=2)
        if json is not None and str(json) != "-":
            with atomic_write(json, "w") as file:
                file.write(text + "\n")
        typer.echo(text if str(json) == "-" else str(report))
        if not report.ok:
            raise InputError(f"{model.checkpoint} is not what it claims to be: see the verdict above")
