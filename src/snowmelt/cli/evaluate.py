"""``snowmelt evaluate``: are generated images good, new and useful, and how certain is the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.options import (
    Background,
    Device,
    GuidanceScale,
    MethodOptions,
    NoEma,
    Precision,
    Quiet,
    with_groups,
)
from snowmelt.cli.parsing import integers
from snowmelt.errors import InputError

__all__ = ["evaluate_command"]


@with_groups
def evaluate_command(
    generated: Annotated[
        Path,
        typer.Argument(
            metavar="GENERATED", help="Images: folder, .npz file or data set. Or a checkpoint to sample."
        ),
    ],
    real: Annotated[
        Path,
        typer.Option("--real", help="Real images, or an .npz file with their statistics mu and sigma."),
    ],
    method: MethodOptions,
    train: Annotated[
        Path | None,
        typer.Option("--train", help="The model's training images. Default: those of --real."),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(
            "--extractor",
            help="imagenet (the default), classifier, inception, pixels, timm:MODEL, or a file .pt, .ts or "
            ".onnx.",
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="File with the weights of imagenet, inception or timm.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out", help="Real images the model never saw, to look for copies."),
    ] = None,
    useful: Annotated[
        bool,
        typer.Option("--useful", help="Train classifiers with and without the images; needs --held-out."),
    ] = False,
    select: Annotated[
        str | None,
        typer.Option(
            "--select",
            metavar="RULE=NUMBER",
            help="Keep the images nearest to the real ones in OUT/selected: top_k, percentile or threshold.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="NAME,NAME,...", help="Compute only these. Default: all."),
    ] = None,
    no_classes: Annotated[bool, typer.Option("--no-classes", help="Do not measure each class.")] = False,
    no_ladder: Annotated[
        bool, typer.Option("--no-ladder", help="Do not measure spoilt real images for a scale.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for metrics.json, report.html and the pictures.")
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            "--image-size",
            metavar="SIDE or H,W",
            help="Size of all images, in pixels. Default: that of the generated ones.",
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            "--channels", help="1 turns all images gray, 3 into colour. Default: as the generated ones."
        ),
    ] = None,
    background: Background = None,
    num_samples: Annotated[
        int, typer.Option("--num-samples", min=2, help="Number of images to sample from a checkpoint.")
    ] = 2048,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of these images.")] = 0,
    guidance: GuidanceScale = 0.0,
    no_ema: NoEma = False,
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images whose features are computed together.")
    ] = 64,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder that keeps features. Default: ~/.cache/snowmelt.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing for the next call.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare generated images with real ones: are they good, are they new, are they useful.

    C2ST, KID, FID, precision and recall, density and coverage, each with its 95 % interval, for all images
    and for each class, on a ladder of real images and spoilt ones.
    """
    with user_errors(), figures(as_json) as show:
        from snowmelt.device import resolve_device
        from snowmelt.evaluation.answers.job import EvaluationJob
        from snowmelt.files import user_cache

        job = EvaluationJob(
            generated=generated,
            real=real,
            train=train,
            held_out=held_out,
            useful=useful,
            select=_rule(select) if select is not None else None,
            metrics=[name.strip() for name in metrics.split(",")] if metrics is not None else None,
            per_class=not no_classes,
            ladder=not no_ladder,
            out=out,
            image_size=_size(image_size),
            background=background,
            channels=channels,
            extractor=extractor,
            weights=weights,
            num_samples=num_samples,
            seed=seed,
            guidance_scale=guidance,
            use_ema=not no_ema,
            method=method.text(),
            device=resolve_device(device),
            precision=precision,
            batch_size=batch_size,
            cache=None if no_cache else cache or user_cache(),
            show_progress=not quiet,
        )
        answers = job.run()
        show(answers.to_dict(), f"{answers}\n\nWrote {out}" if out is not None else answers)


def _size(text: str | None) -> int | list[int] | None:
    """Return the side in ``"32"``, or height and width in ``"32,64"``."""
    given = integers(text, "--image-size")
    return given[0] if given is not None and len(given) == 1 else given


def _rule(text: str) -> tuple[str, float]:
    """Return the rule and the number in ``"top_k=500"``."""
    rule, _, value = text.partition("=")
    try:
        return rule, float(value)
    except ValueError:
        raise InputError(f"--select takes RULE=NUMBER, such as top_k=500; got {text!r}") from None
