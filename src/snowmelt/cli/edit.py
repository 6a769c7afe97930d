"""``snowmelt edit``: change and vary single images.

Each command loads a checkpoint, calls one function of `snowmelt.editing`, and writes one file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.examples import epilog
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.options import Background, GuidanceScale, MethodOptions, SamplerOptions, with_groups
from snowmelt.cli.parsing import expect_suffix, integers, label_each, numbers

__all__ = ["edits"]

edits = typer.Typer(
    help="Work with single images: interpolate, vary, edit and invert them, and film how they are made.",
    no_args_is_help=True,
)


Inputs = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Image files of the model's size; see --fit.")
]
Out = Annotated[Path, typer.Option("--out", help="PNG file to write. Several images become one picture.")]
Seeds = Annotated[str, typer.Option("--seeds", metavar="N,N,...", help="Seeds of the images.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the noise. Each image gets its own from it.")]
Classes = Annotated[
    str | None,
    typer.Option("--class", metavar="N,N,...", help="Class labels: one for all, or one for each."),
]
Scale = Annotated[
    int | None,
    typer.Option(
        "--scale", min=1, help="Enlarge pixels by this factor. Default: only groups of small images."
    ),
]
Fit = Annotated[bool, typer.Option("--fit", help="Resize and center-crop inputs of another size.")]


@edits.command("interpolate", epilog=epilog("edit interpolate"))
@with_groups
def interpolate_command(
    model: SamplerOptions,
    method: MethodOptions,
    seeds: Seeds,
    out: Out,
    num: Annotated[int, typer.Option("--num", min=1, help="Number of images on the path.")] = 9,
    loop: Annotated[bool, typer.Option("--loop", help="Continue from the last seed to the first.")] = False,
    classes: Classes = None,
    guidance: GuidanceScale = 0.0,
    scale: Scale = None,
) -> None:
    """Interpolate from seed to seed, and from class to class.

    Give a seed twice, with two classes, to change the class alone: --seeds 5,5 --class 3,8
    """
    with user_errors():
        from snowmelt.editing import interpolate
        from snowmelt.editing.pictures import write_pictures

        expect_suffix(out, ".png")
        sampler = model.sampler(method.text())
        knots = integers(seeds, "--seeds") or []
        labels = label_each(integers(classes, "--class"), len(knots), "--class")
        images = interpolate(sampler, knots, num, class_labels=labels, guidance_scale=guidance, loop=loop)
        write_pictures(images, out, nrow=num, scale=scale)


@edits.command("variations", epilog=epilog("edit variations"))
@with_groups
def variations_command(
    model: SamplerOptions,
    method: MethodOptions,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the image to vary.")],
    out: Out,
    strength: Annotated[
        str,
        typer.Option("--strength", metavar="X,X,...", help="0: the same image, 1: unrelated. A row each."),
    ] = "0.3",
    num: Annotated[int, typer.Option("--num", min=1, help="Number of images in a row.")] = 8,
    label: Annotated[int | None, typer.Option("--class", help="Class label of all images.")] = None,
    guidance: GuidanceScale = 0.0,
    scale: Scale = None,
) -> None:
    """Vary the image of one seed."""
    with user_errors():
        import torch

        from snowmelt.editing import variations
        from snowmelt.editing.checks import check_strength
        from snowmelt.editing.pictures import write_pictures

        expect_suffix(out, ".png")
        strengths = [check_strength(share) for share in numbers(strength, "--strength")]
        sampler = model.sampler(method.text())
        rows = [
            variations(sampler, seed, num, strength=share, class_label=label, guidance_scale=guidance)
            for share in strengths
        ]
        write_pictures(torch.cat(rows), out, nrow=num, scale=scale)


@edits.command("image-to-image", epilog=epilog("edit image-to-image"))
@with_groups
def image_to_image_command(
    model: SamplerOptions,
    method: MethodOptions,
    inputs: Inputs,
    out: Out,
    strength: Annotated[
        str,
        typer.Option("--strength", metavar="X,X,...", help="0: the input, 1: nothing of it. A column each."),
    ] = "0.5",
    classes: Classes = None,
    guidance: GuidanceScale = 0.0,
    seed: Seed = 0,
    fit: Fit = False,
    background: Background = None,
    scale: Scale = None,
) -> None:
    """Noise images up to t = strength and sample from there (SDEdit)."""
    with user_errors():
        from snowmelt.editing import image_to_image
        from snowmelt.editing.checks import check_strength
        from snowmelt.editing.pictures import interleave, read_images, write_pictures
        from snowmelt.sampling import image_seeds

        expect_suffix(out, ".png")
        strengths = [check_strength(share) for share in numbers(strength, "--strength")]
        sampler, behind = model.sampler_on(method.text(), background)
        images = read_images(inputs, sampler.model.image_shape, fit=fit, background=behind)
        labels = label_each(integers(classes, "--class"), len(images), "--class")
        columns = [
            image_to_image(
                sampler,
                images,
                strength=share,
                class_labels=labels,
                guidance_scale=guidance,
                seeds=image_seeds(seed, len(images)),
            )
            for share in strengths
        ]
        write_pictures(interleave(columns), out, nrow=len(strengths), scale=scale)


@edits.command("invert", epilog=epilog("edit invert"))
@with_groups
def invert_command(
    model: SamplerOptions,
    method: MethodOptions,
    inputs: Inputs,
    out: Annotated[
        Path,
        typer.Option("--out", help="FILE.npy for the noise; FILE.png for input, noise and reconstruction."),
    ],
    classes: Classes = None,
    guidance: GuidanceScale = 0.0,
    fit: Fit = False,
    background: Background = None,
    scale: Scale = None,
    as_json: AsJson = False,
) -> None:
    """Find the noise that leads to an image, and print the error of the way back."""
    with user_errors(), figures(as_json) as show:
        from snowmelt.editing import invert
        from snowmelt.editing.pictures import interleave, read_images, write_noise, write_pictures

        expect_suffix(out, ".npy", ".png")
        sampler, behind = model.sampler_on(method.text(), background)
        images = read_images(inputs, sampler.model.image_shape, fit=fit, background=behind).to(sampler.device)
        labels = label_each(integers(classes, "--class"), len(images), "--class")
        found = invert(sampler, images, labels, guidance_scale=guidance)
        errors = dict(zip(map(str, inputs), found.round_trip_error.tolist(), strict=True))
        lines = [f"  {error:.4f}  {path}" for path, error in errors.items()]
        title = "Round trip error (root mean square; an image's range is 2):"
        show({"round_trip_error": errors}, "\n".join([title, *lines]))
        if out.suffix.lower() == ".npy":
            write_noise(found.noise, out)
        else:
            write_pictures(interleave([images, found.noise, found.restored]), out, nrow=3, scale=scale)


@edits.command("swap-class", epilog=epilog("edit swap-class"))
@with_groups
def swap_class_command(
    model: SamplerOptions,
    method: MethodOptions,
    inputs: Inputs,
    out: Out,
    source: Annotated[
        str,
        typer.Option("--from", metavar="N,N,...", help="Labels of the inputs: one, or one for each."),
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="N,N,...", help="Target labels; one column for each.")
    ],
    guidance: GuidanceScale = 0.0,
    fit: Fit = False,
    background: Background = None,
    scale: Scale = None,
) -> None:
    """Change the class of images and keep the noise that they come from."""
    with user_errors():
        from snowmelt.editing import swap_class
        from snowmelt.editing.pictures import interleave, read_images, write_pictures

        expect_suffix(out, ".png")
        sampler, behind = model.sampler_on(method.text(), background)
        images = read_images(inputs, sampler.model.image_shape, fit=fit, background=behind)
        shown = label_each(integers(source, "--from"), len(images), "--from") or []
        wanted = integers(target, "--to") or []
        for label in wanted:  # all of them, before the work on the first
            sampler.request(len(images), [label] * len(images), guidance)
        columns = [
            swap_class(sampler, images, shown, [label] * len(images), guidance_scale=guidance)
            for label in wanted
        ]
        write_pictures(interleave(columns), out, nrow=len(wanted), scale=scale)


@edits.command("inpaint", epilog=epilog("edit inpaint"))
@with_groups
def inpaint_command(
    model: SamplerOptions,
    method: MethodOptions,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="Image file of the model's size; see --fit.")
    ],
    out: Out,
    mask: Annotated[
        Path, typer.Option("--mask", help="Image file: white is kept, black or transparent is painted.")
    ],
    num: Annotated[int, typer.Option("--num", min=1, help="Number of different results.")] = 1,
    resamplings: Annotated[
        int, typer.Option("--resamplings", help="Number of passes over each stretch of time.")
    ] = 10,
    jump: Annotated[int, typer.Option("--jump", help="Time steps in a stretch.")] = 5,
    label: Annotated[int | None, typer.Option("--class", help="Class label of the image.")] = None,
    guidance: GuidanceScale = 0.0,
    seed: Seed = 0,
    fit: Fit = False,
    background: Background = None,
    scale: Scale = None,
) -> None:
    """Paint the missing part of an image (RePaint)."""
    with user_errors():
        from snowmelt.editing import inpaint
        from snowmelt.editing.pictures import read_images, read_mask, write_pictures
        from snowmelt.sampling import image_seeds

        expect_suffix(out, ".png")
        sampler, behind = model.sampler_on(method.text(), background)
        shape = sampler.model.image_shape
        images = read_images([image], shape, fit=fit, background=behind).expand(num, *shape)
        painted = inpaint(
            sampler,
            images,
            read_mask(mask, shape, fit=fit),
            resamplings=resamplings,
            jump=jump,
            class_labels=None if label is None else [label] * num,
            guidance_scale=guidance,
            seeds=image_seeds(seed, num),
        )
        write_pictures(painted, out, nrow=num, scale=scale)


@edits.command("film", epilog=epilog("edit film"))
@with_groups
def film_command(
    model: SamplerOptions,
    method: MethodOptions,
    seeds: Seeds,
    out: Annotated[Path, typer.Option("--out", help="FILE.png: a strip. FILE.gif, FILE.webp: an animation.")],
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", min=1, help="Default: 8 for a strip, 100 for an animation.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of an animation.")] = 5.0,
    classes: Classes = None,
    guidance: GuidanceScale = 0.0,
    scale: Scale = None,
) -> None:
    """Film how images are made: the state, and the image that the model predicts from it."""
    with user_errors():
        from snowmelt.editing import choose_frames, save_animation, save_film_strip
        from snowmelt.editing.film import check_seconds

        strip = expect_suffix(out, ".png", ".gif", ".webp") == ".png"
        check_seconds(seconds)
        sampler = model.sampler(method.text())
        each_seed = integers(seeds, "--seeds") or []
        labels = label_each(integers(classes, "--class"), len(each_seed), "--class")
        states = sampler.trajectory(len(each_seed), labels, guidance, seeds=each_seed)
        count = max_frames if max_frames is not None else 8 if strip else 100
        frames = choose_frames(states, sampler.plan.nfe, count)
        if strip:
            save_film_strip(frames, out, scale=scale)
        else:
            save_animation(frames, out, scale=scale, seconds=seconds)
