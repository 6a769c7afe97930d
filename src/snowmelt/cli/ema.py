"""``snowmelt ema RUN_FOLDER``: another average of a run's weights, after the run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.parsing import expect_suffix

__all__ = ["ema_command"]


def ema_command(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN_FOLDER", help="Folder of a run with training.ema.snapshots."),
    ],
    width: Annotated[
        float, typer.Option("--width", help="Of the average: a share of the run, up to 0.2886.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Checkpoint to write: *.safetensors or *.pth. Default: in the folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint with the average that the run would have had with another width (EDM2)."""
    with user_errors(), figures(as_json) as show:
        from snowmelt.models.post_hoc import synthesised

        path = out if out is not None else folder / f"ema_{width:.3f}.safetensors"
        expect_suffix(path, ".safetensors", ".pth")
        synthesised(folder, width).write(path)
        show(
            {"checkpoint": path, "width": width},
            f"{path}: the weights averaged over a width of {width:g} of the run",
        )
