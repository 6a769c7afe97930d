"""``snowmelt evaluate``: are generated images good, new and useful, and how sure is that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.options import Device, Grid, Guidance, NoEma, Options, Steps
from snowmelt.errors import InputError

if TYPE_CHECKING:
    from snowmelt.evaluation import ImageSource

__all__ = ["evaluate_command"]

SELECTED = "selected"


def evaluate_command(
    generated: Annotated[
        Path,
        typer.Argument(
            metavar="GENERATED", help="Folder, .npz file or data set of images; or a checkpoint to sample."
        ),
    ],
    real: Annotated[
        Path,
        typer.Option("--real", help="Real images, the same; or an .npz file of statistics, mu and sigma."),
    ],
    train: Annotated[
        Path | None,
        typer.Option("--train", help="Images the model was trained on; those of --real unless told."),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(
            "--extractor",
            help="classifier, inception, pixels, timm:MODEL, or a file .pt, .ts or .onnx. Unless told, a "
            "classifier for small labelled images and inception for others.",
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="File of weights, for inception and timm.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out", help="Real images that the model never saw: look for copies of others."),
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
            help="Keep the images nearest to the real ones, in OUT/selected: top_k, percentile or threshold.",
        ),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="NAME,NAME,...", help="Only these; all unless told.")
    ] = None,
    no_classes: Annotated[bool, typer.Option("--no-classes", help="Leave the single classes out.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for metrics.json, report.html and the pictures.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=1, help="Resize all images to so many pixels a side.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option("--channels", help="1 makes all images gray, 3 colour.")
    ] = None,
    num_samples: Annotated[
        int, typer.Option("--num-samples", min=2, help="Images to sample from a checkpoint.")
    ] = 2048,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of these images.")] = 0,
    guidance: Guidance = 0.0,
    solver: Annotated[
        str, typer.Option("--solver", help="A solver or a preset of `snowmelt plan list`.")
    ] = "balanced",
    steps: Steps = None,
    grid: Grid = None,
    options: Options = None,
    no_ema: NoEma = False,
    device: Device = "auto",
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images that are looked at together.")
    ] = 64,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder that keeps features; the user's unless told.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing for the next time.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Judge generated images by real ones: are they good, are they new, are they useful.

    FID, KID, IS, precision and recall, density and coverage, each with its 95 % interval, for all images and
    for each class.
    """
    with user_errors(), TemporaryDirectory() as passing:
        from snowmelt.build.editing import read_words
        from snowmelt.build.evaluation import (
            Looking,
            Sampled,
            choose_extractor,
            default_cache,
            judge,
            look_for_copies,
            metric_names,
            open_generated,
            selected,
            selection_rule,
            write_report,
        )
        from snowmelt.device import resolve_device
        from snowmelt.evaluation import is_statistics, open_images
        from snowmelt.evaluation.usefulness import usefulness

        chosen, rule = metric_names(metrics), selection_rule(select)
        words = read_words(solver, steps, grid, options or ())
        folder = Path(passing) if no_cache else cache or default_cache()
        keep: dict[str, Any] = {"cache": folder, "show_progress": not quiet}
        where = resolve_device(device)

        shape: dict[str, Any] = {"image_size": image_size, "channels": channels}
        reference = None if is_statistics(real) else open_images(real, **shape)
        training = reference if train is None else _opened(train, reference, **shape)
        unseen = None if held_out is None else _opened(held_out, training, **shape)
        _check(out, reference is not None, training is not None, unseen is not None, useful, rule is not None)
        sampled = Sampled(num_samples, words, guidance, seed, not no_ema, device)
        images = open_generated(generated, reference or training, sampled, **shape, **keep)
        look = choose_extractor(extractor, training, weights=weights, device=where, **keep)
        looking = Looking(look, batch_size, **keep)

        report = judge(images, reference or real, looking, metrics=chosen, per_class=not no_classes)
        if unseen is not None and training is not None:
            report = replace(report, novelty=look_for_copies(images, training, unseen, looking))
            if useful:
                found = usefulness(images, training, unseen, device=where, show_progress=not quiet)
                report = replace(report, usefulness=found)
        if rule is not None and reference is not None and out is not None:
            kept = selected(images, reference, looking, rule, per_class=not no_classes, folder=out / SELECTED)
            report = replace(report, selection=kept)
        typer.echo(str(report))
        if out is not None:
            write_report(report, images, reference, training, out)
            typer.echo(f"\nWrote {out}")


def _opened(path: Path, like: ImageSource | None, **shape: Any) -> ImageSource:
    """Open images with their classes numbered as those of others, if there are any."""
    from snowmelt.evaluation import open_images, renumber_classes

    return renumber_classes(open_images(path, **shape), like.class_names if like is not None else None)


def _check(
    out: Path | None, images: bool, training: bool, held_out: bool, useful: bool, selecting: bool
) -> None:
    """Refuse what cannot be done, before any work is done for it."""
    if useful and not held_out:
        raise InputError("--useful tests classifiers on real images that nobody has seen: give --held-out")
    if held_out and not training:
        raise InputError("--held-out is for finding copies of training images: give these as --train")
    if selecting and not (out and images):
        raise InputError("--select compares with real images, and writes into --out: give both")
    if selecting and out is not None and (out / SELECTED).exists():
        raise InputError(f"{out / SELECTED} is there already: remove it, or give another --out")
