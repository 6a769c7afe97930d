"""``snowmelt import`` and ``snowmelt export``: models from and for other libraries."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import exit_codes

__all__ = ["export_command", "import_command"]


class Format(StrEnum):
    """What can be exported to."""

    DIFFUSERS = "diffusers"


def import_command(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A diffusers folder: a UNet2DModel, or a pipeline with one."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Checkpoint to write: *.safetensors or *.pth")],
) -> None:
    """Turn a model of diffusers into a checkpoint, to sample, edit, evaluate or train it further."""
    with exit_codes():
        from snowmelt.build.conversion import import_model

        model = import_model(folder, out)
        classes = f", {model.num_classes} classes" if model.num_classes else ""
        shape = " x ".join(map(str, model.image_shape))
        typer.echo(
            f"{out}: {shape} images{classes}, {model.schedule!r}, predicts {model.parameterization.name}"
        )


def export_command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Model file, such as checkpoints/latest.pth")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to make.")],
    to: Annotated[Format, typer.Option("--to", help="The library that shall read it.")],
    no_ema: Annotated[
        bool, typer.Option("--no-ema", help="Write the weights themselves, not their average.")
    ] = False,
    license: Annotated[
        str, typer.Option("--license", help="License of the model card, e.g. mit.")
    ] = "unknown",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Turn a checkpoint into a folder that another library loads, with a model card."""
    with exit_codes():
        from snowmelt.build.conversion import export_model

        export_model(checkpoint, folder, use_ema=not no_ema, license=license, overwrite=overwrite)
        typer.echo(f"{folder}: a {to.value} folder")
