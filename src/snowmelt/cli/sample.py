"""``snowmelt sample CHECKPOINT``: make a picture without a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.options import GuidanceScale, MethodOptions, Quiet, SamplerOptions, with_groups
from snowmelt.cli.parsing import expect_suffix, integers
from snowmelt.text import counted

__all__ = ["sample_command"]


@with_groups
def sample_command(
    model: SamplerOptions,
    method: MethodOptions,
    num: Annotated[int, typer.Option("--num", min=1, help="Number of images.")] = 16,
    classes: Annotated[
        str | None,
        typer.Option("--class", metavar="N,N,...", help="Class labels. Default: all classes in turn."),
    ] = None,
    guidance: GuidanceScale = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Each image gets its own seed from it.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="PNG file to write; it shows all images.")] = Path(
        "samples.png"
    ),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Sample some images from a checkpoint into one picture."""
    with user_errors(), figures(as_json) as show:
        from snowmelt.generation import choose_images
        from snowmelt.images import save_grid

        expect_suffix(out, ".png")
        wanted = integers(classes, "--class")
        sampler = model.sampler(method.text(), guidance)
        labels, seeds, _ = choose_images(
            sampler.model.num_classes, num, base_seed=seed, class_selection=wanted
        )
        images = sampler.sample(
            len(seeds), labels, guidance, not model.no_ema, show_progress=not quiet, seeds=seeds
        )
        save_grid(images, out, captions=[str(label) for label in labels] if labels is not None else None)
        solved_by, nfe = str(sampler.method), sampler.plan.nfe
        text = f"{out}: {counted(len(seeds), 'image')} by {solved_by} ({counted(nfe, 'evaluation')})"
        show(
            {"picture": out, "method": solved_by, "evaluations": nfe, "seeds": seeds, "classes": labels},
            text if not quiet else None,
        )
