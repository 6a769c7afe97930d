"""``snowmelt import`` and ``snowmelt export``: read models of other libraries and write for them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.options import NoEma
from snowmelt.cli.parsing import expect_suffix
from snowmelt.errors import InputError
from snowmelt.text import counted

__all__ = ["export_command", "import_command"]


class Format(StrEnum):
    """The formats of an export."""

    DIFFUSERS = "diffusers"


def import_command(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A diffusers folder: a UNet2DModel, or a pipeline with one."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Checkpoint to write: *.safetensors or *.pth")],
) -> None:
    """Turn a model of diffusers into a checkpoint, to sample, edit, evaluate or train it further."""
    with user_errors():
        from snowmelt.models import Checkpoint
        from snowmelt.sampling import DiffusionSampler

        expect_suffix(out, ".safetensors", ".pth")
        if not folder.is_dir():
            raise InputError(
                f"{folder} is not a folder; expected one of diffusers, with model_index.json or config.json"
            )
        checkpoint = Checkpoint.read(folder)
        sampler = DiffusionSampler.from_pretrained(checkpoint, use_ema=checkpoint.ema is not None)
        model = sampler.model
        labels = [0] if model.num_classes else None
        if not next(sampler.trajectory(1, labels)).x_t.isfinite().all():
            raise InputError(f"{folder} was not imported: its network answers with NaN or infinity")
        checkpoint.write(out)  # only now: what is written can be sampled from
        classes = f", {counted(model.num_classes, 'class')}" if model.num_classes else ""
        averaged = ", with averaged weights" if checkpoint.ema is not None else ""
        shape = " x ".join(map(str, model.image_shape))
        typer.echo(
            f"{out}: {shape} images{classes}, {model.schedule!r}, predicts "
            f"{model.parameterization.name}{averaged}"
        )


def export_command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Model file, such as checkpoints/latest.pth")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write.")],
    to: Annotated[Format, typer.Option("--to", help="The library that will read it.")],
    no_ema: NoEma = False,
    license: Annotated[
        str, typer.Option("--license", help="License of the model card, e.g. mit.")
    ] = "unknown",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Turn a checkpoint into a folder that another library loads, with a model card."""
    with user_errors():
        from snowmelt.models import Checkpoint
        from snowmelt.models.diffusers.folder import write_folder

        contents = Checkpoint.read(checkpoint)
        write_folder(contents, folder, use_ema=not no_ema, license=license, overwrite=overwrite)
        typer.echo(f"{folder}: a {to.value} folder")
