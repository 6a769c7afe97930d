"""``snowmelt edit``: one image at a time.

Each command loads a checkpoint, calls one function of `snowmelt.editing`, and writes one file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.options import Checkpoint, Device, Grid, Guidance, NoEma, Options, Solver, Steps
from snowmelt.errors import InputError

if TYPE_CHECKING:
    from snowmelt.sampling import DiffusionSampler

__all__ = ["edits"]

edits = typer.Typer(
    help="Play with single images: paths between them, relatives, edits, and films of how they come about.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


Inputs = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Image files of the model's size, see --fit.")
]
Out = Annotated[
    Path, typer.Option("--out", help="PNG file to write: one image as it is, several as one picture.")
]
Seeds = Annotated[str, typer.Option("--seeds", metavar="N,N,...", help="Seeds of the images.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the noise; each image gets its own from it.")]
Classes = Annotated[
    str | None, typer.Option("--class", metavar="N,N,...", help="Class label: one for all, or one each.")
]
Scale = Annotated[
    int | None, typer.Option("--scale", help="Enlarge each pixel so many times; several small images are.")
]
Fit = Annotated[bool, typer.Option("--fit", help="Resize inputs of another size and cut out their middle.")]


@edits.command("interpolate")
def interpolate_command(
    checkpoint: Checkpoint,
    seeds: Seeds,
    out: Out,
    num: Annotated[int, typer.Option("--num", min=1, help="Images on the path.")] = 9,
    loop: Annotated[bool, typer.Option("--loop", help="Go on from the last seed to the first.")] = False,
    classes: Classes = None,
    guidance: Guidance = 0.0,
    solver: Solver = "ddim",
    steps: Steps = None,
    grid: Grid = None,
    options: Options = None,
    device: Device = "auto",
    no_ema: NoEma = False,
    scale: Scale = None,
) -> None:
    """Images on a path from seed to seed, and from class to class.

    Give a seed twice, with two classes, to change the class alone: --seeds 5,5 --class 3,8
    """
    with user_errors():
        from snowmelt.build.editing import a_label_each, integers, write_pictures
        from snowmelt.editing import interpolate

        _expect(out, ".png")
        sampler, _ = _load(checkpoint, solver, steps, grid, options, device, no_ema)
        knots = integers(seeds, "--seeds") or []
        labels = a_label_each(integers(classes, "--class"), len(knots), "--class")
        images = interpolate(sampler, knots, num, class_labels=labels, guidance_scale=guidance, loop=loop)
        write_pictures(images, out, nrow=num, scale=scale)


@edits.command("variations")
def variations_command(
    checkpoint: Checkpoint,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the image to vary.")],
    out: Out,
    strength: Annotated[
        str, typer.Option("--strength", metavar="X,X,...", help="0: itself, 1: others; a row for each.")
    ] = "0.3",
    num: Annotated[int, typer.Option("--num", min=1, help="Images in a row.")] = 8,
    label: Annotated[int | None, typer.Option("--class", help="Class label of all.")] = None,
    guidance: Guidance = 0.0,
    solver: Solver = "ddim",
    steps: Steps = None,
    grid: Grid = None,
    options: Options = None,
    device: Device = "auto",
    no_ema: NoEma = False,
    scale: Scale = None,
) -> None:
    """Relatives of one seed's image."""
    with user_errors():
        import torch

        from snowmelt.build.editing import numbers, write_pictures
        from snowmelt.editing import variations

        _expect(out, ".png")
        sampler, _ = _load(checkpoint, solver, steps, grid, options, device, no_ema)
        rows = [
            variations(sampler, seed, num, strength=share, class_label=label, guidance_scale=guidance)
            for share in numbers(strength, "--strength")
        ]
        write_pictures(torch.cat(rows), out, nrow=num, scale=scale)


@edits.command("image-to-image")
def image_to_image_command(
    checkpoint: Checkpoint,
    inputs: Inputs,
    out: Out,
    strength: Annotated[
        str,
        typer.Option("--strength", metavar="X,X,...", help="0: the input, 1: nothing of it; a column each."),
    ] = "0.5",
    classes: Classes = None,
    guidance: Guidance = 0.0,
    seed: Seed = 0,
    solver: Solver = "ddim",
    steps: Steps = None,
    grid: Grid = None,
    options: Options = None,
    fit: Fit = False,
    device: Device = "auto",
    no_ema: NoEma = False,
    scale: Scale = None,
) -> None:
    """Noise images up to t = strength and sample from there (SDEdit)."""
    with user_errors():
        from snowmelt.build.editing import (
            a_label_each,
            by_row,
            integers,
            numbers,
            read_images,
            write_pictures,
        )
        from snowmelt.editing import image_to_image
        from snowmelt.sampling import image_seeds

        _expect(out, ".png")
        sampler, method = _load(checkpoint, solver, steps, grid, options, device, no_ema)
        images = read_images(inputs, sampler.model.image_shape, fit=fit)
        labels = a_label_each(integers(classes, "--class"), len(images), "--class")
        strengths = numbers(strength, "--strength")
        columns = [
            image_to_image(
                sampler,
                images,
                strength=share,
                class_labels=labels,
                guidance_scale=guidance,
                seeds=image_seeds(seed, len(images)),
                **method,
            )
            for share in strengths
        ]
        write_pictures(by_row(columns), out, nrow=len(strengths), scale=scale)


@edits.command("invert")
def invert_command(
    checkpoint: Checkpoint,
    inputs: Inputs,
    out: Annotated[
        Path,
        typer.Option("--out", help="FILE.npy for the noise; FILE.png for input, noise, and the way back."),
    ],
    classes: Classes = None,
    guidance: Guidance = 0.0,
    solver: Solver = "dpmpp_2m",
    steps: Steps = None,
    grid: Grid = None,
    options: Options = None,
    fit: Fit = False,
    device: Device = "auto",
    no_ema: NoEma = False,
    scale: Scale = None,
) -> None:
    """Find the noise from which sampling leads to an image, and say how far the way back misses it."""
    with user_errors():
        from snowmelt.build.editing import (
            a_label_each,
            by_row,
            integers,
            read_images,
            write_noise,
            write_pictures,
        )
        from snowmelt.editing import invert

        _expect(out, ".npy", ".png")
        sampler, method = _load(checkpoint, solver, steps, grid, options, device, no_ema)
        images = read_images(inputs, sampler.model.image_shape, fit=fit).to(sampler.device)
        labels = a_label_each(integers(classes, "--class"), len(images), "--class")
        found = invert(sampler, images, labels, guidance_scale=guidance, **method)
        typer.echo("Round trip error (root mean square; an image's range is 2):")
        for path, error in zip(inputs, found.round_trip_error.tolist(), strict=True):
            typer.echo(f"  {error:.4f}  {path}")
        if out.suffix.lower() == ".npy":
            write_noise(found.noise, out)
        else:
            write_pictures(by_row([images, found.noise, found.restored]), out, nrow=3, scale=scale)


@edits.command("swap-class")
def swap_class_command(
    checkpoint: Checkpoint,
    inputs: Inputs,
    out: Out,
    source: Annotated[
        str, typer.Option("--from", metavar="N,N,...", help="What the images show: one for all, or one each.")
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="N,N,...", help="What they shall show; a column for each label.")
    ],
    guidance: Guidance = 0.0,
    solver: Solver = "dpmpp_2m",
    steps: Steps = None,
    grid: Grid = None,
    options: Options = None,
    fit: Fit = False,
    device: Device = "auto",
    no_ema: NoEma = False,
    scale: Scale = None,
) -> None:
    """Turn images into members of other classes, with the same noise behind them."""
    with user_errors():
        from snowmelt.build.editing import a_label_each, by_row, integers, read_images, write_pictures
        from snowmelt.editing import swap_class

        _expect(out, ".png")
        sampler, method = _load(checkpoint, solver, steps, grid, options, device, no_ema)
        images = read_images(inputs, sampler.model.image_shape, fit=fit)
        shown = a_label_each(integers(source, "--from"), len(images), "--from") or []
        wanted = integers(target, "--to") or []
        columns = [
            swap_class(sampler, images, shown, [label] * len(images), guidance_scale=guidance, **method)
            for label in wanted
        ]
        write_pictures(by_row(columns), out, nrow=len(wanted), scale=scale)


@edits.command("inpaint")
def inpaint_command(
    checkpoint: Checkpoint,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="Image file of the model's size, see --fit.")
    ],
    out: Out,
    mask: Annotated[Path, typer.Option("--mask", help="Image file: white is kept, black is painted anew.")],
    num: Annotated[int, typer.Option("--num", min=1, help="How many different ones to paint.")] = 1,
    resamplings: Annotated[
        int, typer.Option("--resamplings", help="How often each stretch of the way down is passed.")
    ] = 10,
    jump: Annotated[int, typer.Option("--jump", help="Time steps of such a stretch.")] = 5,
    label: Annotated[int | None, typer.Option("--class", help="Class label of the image.")] = None,
    guidance: Guidance = 0.0,
    seed: Seed = 0,
    solver: Solver = "ddpm",
    steps: Steps = None,
    grid: Grid = None,
    options: Options = None,
    fit: Fit = False,
    device: Device = "auto",
    no_ema: NoEma = False,
    scale: Scale = None,
) -> None:
    """Paint what is missing of an image (RePaint)."""
    with user_errors():
        from snowmelt.build.editing import read_images, read_mask, write_pictures
        from snowmelt.editing import inpaint
        from snowmelt.sampling import image_seeds

        _expect(out, ".png")
        sampler, method = _load(checkpoint, solver, steps, grid, options, device, no_ema)
        shape = sampler.model.image_shape
        images = read_images([image], shape, fit=fit).expand(num, *shape)
        painted = inpaint(
            sampler,
            images,
            read_mask(mask, shape, fit=fit),
            resamplings=resamplings,
            jump=jump,
            class_labels=None if label is None else [label] * num,
            guidance_scale=guidance,
            seeds=image_seeds(seed, num),
            **method,
        )
        write_pictures(painted, out, nrow=num, scale=scale)


@edits.command("film")
def film_command(
    checkpoint: Checkpoint,
    seeds: Seeds,
    out: Annotated[Path, typer.Option("--out", help="FILE.png for a strip; FILE.gif or FILE.webp moves.")],
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", help="8 of a strip, 100 of an animation unless told.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="How long an animation takes.")] = 5.0,
    classes: Classes = None,
    guidance: Guidance = 0.0,
    solver: Solver = "ddim",
    steps: Steps = None,
    grid: Grid = None,
    options: Options = None,
    device: Device = "auto",
    no_ema: NoEma = False,
    scale: Scale = None,
) -> None:
    """Watch images come about: the state, and the image that the model sees in it."""
    with user_errors():
        from snowmelt.build.editing import a_label_each, integers
        from snowmelt.editing import choose_frames, save_animation, save_film_strip

        strip = _expect(out, ".png", ".gif", ".webp") == ".png"
        sampler, _ = _load(checkpoint, solver, steps, grid, options, device, no_ema)
        each_seed = integers(seeds, "--seeds") or []
        labels = a_label_each(integers(classes, "--class"), len(each_seed), "--class")
        states = sampler.trajectory(len(each_seed), labels, guidance, seeds=each_seed)
        count = max_frames if max_frames is not None else 8 if strip else 100
        frames = choose_frames(states, sampler.plan.nfe, count)
        if strip:
            save_film_strip(frames, out, scale=scale)
        else:
            save_animation(frames, out, scale=scale, seconds=seconds)


def _load(
    checkpoint: Path,
    solver: str,
    steps: int | None,
    grid: str | None,
    options: list[str] | None,
    device: str,
    no_ema: bool,
) -> tuple[DiffusionSampler, dict[str, Any]]:
    """Return the sampler, and its method as the library's edits take it."""
    from snowmelt.build.editing import load_sampler, read_words

    words = read_words(solver, steps, grid, options or ())
    return load_sampler(checkpoint, words, device=device, use_ema=not no_ema), words.arguments


def _expect(out: Path, *suffixes: str) -> str:
    """Return the suffix of the file to write, before any work is done for it."""
    suffix = out.suffix.lower()
    if suffix not in suffixes:
        raise InputError(f"--out is a file *{' or *'.join(suffixes)} here, got {out.name!r}")
    return suffix
