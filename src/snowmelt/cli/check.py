"""``snowmelt check``: what does a network really speak, and does it listen to its labels?"""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.options import Device, NoEma
from snowmelt.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from snowmelt.evaluation import ImageSource

__all__ = ["check_command"]


def check_command(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Model file, such as latest.pth, or a folder of diffusers."),
    ],
    images: Annotated[
        Path,
        typer.Option("--images", help="Real images: folder, .npz file, or data set such as digits:test."),
    ],
    num_images: Annotated[
        int, typer.Option("--num-images", min=8, help="How many of them to look at, from all over the set.")
    ] = 64,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the noise.")] = 0,
    no_ema: NoEma = False,
    device: Device = "auto",
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file; - prints them instead.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Measure on real images what a model predicts, is told and expects, and whether that is what it claims.

    Exit code 0 if its claim fits, and 2 if it does not, or if the class label changes nothing.
    """
    with user_errors():
        from json import dumps

        from snowmelt.adapters import check_denoiser
        from snowmelt.build.editing import load_sampler, read_words
        from snowmelt.build.generation import class_names
        from snowmelt.evaluation import numbered_as, open_images
        from snowmelt.files import atomic_write

        sampler = load_sampler(model, read_words("ddim", 1), device=device, use_ema=not no_ema)
        channels, *size = sampler.model.image_shape
        source = numbered_as(
            open_images(images, image_size=(size[0], size[1]), channels=channels),
            class_names(model) if model.is_file() else None,
        )
        chosen, labels = _chosen(source, num_images, sampler.model.num_classes)
        averaged = nullcontext() if sampler.ema is None else sampler.ema.applied()
        with averaged:
            report = check_denoiser(
                sampler.model, chosen.to(sampler.device), labels, seed=seed, show_progress=not quiet
            )
        text = dumps(report.to_dict(), indent=2)
        if json is not None and str(json) != "-":
            with atomic_write(json, "w") as file:
                file.write(text + "\n")
        typer.echo(text if str(json) == "-" else str(report))
        if not report.ok:
            raise InputError(f"{model} is not what it claims to be: see the verdict above")


def _chosen(source: ImageSource, count: int, num_classes: int | None) -> tuple[Tensor, Tensor | None]:
    """Return images from all over the set, and their labels if the model can know them."""
    import torch

    from snowmelt.images import from_uint8

    wanted = torch.linspace(0, len(source) - 1, min(count, len(source)), dtype=torch.float64).long()
    pieces, start = [], 0
    for batch in source.batches(256):
        here = wanted[(wanted >= start) & (wanted < start + len(batch))]
        pieces.append(batch[here - start])
        start += len(batch)
    images = from_uint8(torch.cat(pieces))
    if source.labels is None or num_classes is None:
        return images, None
    labels = source.labels[wanted]
    if labels.max() >= num_classes:
        warnings.warn(
            f"{source.name} has classes that the model, with {num_classes}, does not know: the labels are "
            "left out",
            stacklevel=2,
        )
        return images, None
    return images, labels
