"""``snowmelt import`` and ``snowmelt export``: read models of other libraries and write for them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.options import NoEma
from snowmelt.cli.parsing import expect_suffix
from snowmelt.errors import InputError
from snowmelt.text import counted

__all__ = ["export_command", "import_command"]


class Format(StrEnum):
    """The formats of an export."""

    DIFFUSERS = "diffusers"


def import_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|FILE",
            help="A diffusers folder: a UNet2DModel, or a pipeline with one. Or a file of guided-diffusion.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Checkpoint to write: *.safetensors or *.pth")],
    flags: Annotated[
        list[str] | None,
        typer.Option(
            "--flag",
            metavar="NAME=VALUE",
            help="How a file of guided-diffusion was trained, such as image_size=64; once for each flag.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a model of another library into a checkpoint, to sample, edit, evaluate or train it further."""
    with user_errors(), figures(as_json) as show:
        from snowmelt.adapters import read_adm
        from snowmelt.models import Checkpoint
        from snowmelt.sampling import DiffusionSampler

        expect_suffix(out, ".safetensors", ".pth")
        if not source.exists():
            raise InputError(f"{source} is not there; expected a diffusers folder or a guided-diffusion file")
        a_folder = source.is_dir() and not flags
        checkpoint = Checkpoint.read(source) if a_folder else read_adm(source, **_values(flags))
        sampler = DiffusionSampler.from_pretrained(checkpoint, use_ema=checkpoint.ema is not None)
        model = sampler.model
        labels = [0] if model.num_classes else None
        if not next(sampler.trajectory(1, labels)).x_t.isfinite().all():
            raise InputError(f"{source} was not imported: its network answers with NaN or infinity")
        checkpoint.write(out)  # only now: what is written can be sampled from
        classes = f", {counted(model.num_classes, 'class')}" if model.num_classes else ""
        averaged = ", with averaged weights" if checkpoint.ema is not None else ""
        shape = " x ".join(map(str, model.image_shape))
        show(
            {
                "checkpoint": out,
                "image_shape": model.image_shape,
                "num_classes": model.num_classes,
                "schedule": repr(model.schedule),
                "parameterization": model.parameterization.name,
                "averaged": checkpoint.ema is not None,
            },
            f"{out}: {shape} images{classes}, {model.schedule!r}, predicts "
            f"{model.parameterization.name}{averaged}",
        )


def _values(flags: list[str] | None) -> dict[str, Any]:
    """Return flags by name, with values as YAML reads them."""
    import yaml

    values = {}
    for flag in flags or ():
        name, is_there, value = flag.partition("=")
        if not is_there:
            raise InputError(f"--flag {flag}: expected NAME=VALUE, such as image_size=64")
        values[name.strip().replace("-", "_")] = yaml.safe_load(value)
    return values


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
