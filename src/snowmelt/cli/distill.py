"""``snowmelt distill CHECKPOINT --steps 1 2 4``: a student that needs few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.options import Device, GuidanceScale, Overwrite, Precision, Quiet
from snowmelt.cli.parsing import integers
from snowmelt.errors import as_input_errors

__all__ = ["distill_command"]

BUDGET = "10m"


def distill_command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="The teacher, such as checkpoints/latest.pth.")
    ],
    more: Annotated[list[int] | None, typer.Argument(metavar="", hidden=True)] = None,
    steps: Annotated[
        str,
        typer.Option(
            "--steps", metavar="N N ...", help="Numbers of steps that one student is for, such as 1 2 4."
        ),
    ] = "1,2,4",
    guidance: GuidanceScale = 0.0,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Such as 30m: the run ends after it. Default: 10m."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--images",
            metavar="N",
            help="In place of a time: the run ends when the student has seen so many images. Needs --pairs.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="How the teacher samples: deterministic, such as quality. Default: the checkpoint's own "
            "method; if it has none, balanced.",
        ),
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(
            "--pairs",
            metavar="N",
            help="Images that the teacher makes for the student. Default: those of a third of the time.",
        ),
    ] = None,
    critic: Annotated[
        float,
        typer.Option(
            "--critic",
            help="Weight of a critic, which tells the student's images from the teacher's and so sees blur. "
            "0: none.",
        ),
    ] = 0.02,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the student. Default: distilled, beside the checkpoint."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="All chance follows from it.")] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a student that makes in few steps what the checkpoint makes in many. It needs no data.

    Its guidance scale is baked in: sample it without one. If it is stopped, the same command goes on.
    """
    with exit_codes("run the same command again"), figures(as_json) as show:
        from snowmelt.device import resolve_device
        from snowmelt.distillation import Distillation, Teacher
        from snowmelt.models import Checkpoint
        from snowmelt.text import seconds_in
        from snowmelt.training.length import Length

        with as_input_errors():  # nothing has been done yet
            if budget is None and images is None:
                budget = BUDGET
            length = Length.of(images=images, seconds=seconds_in(budget) if budget is not None else None)
            teacher = Teacher(Checkpoint.read(checkpoint), guidance, method, resolve_device(device), seed)
            distillation = Distillation(
                teacher,
                out if out is not None else checkpoint.parent / "distilled",
                [*(integers(steps, "--steps") or []), *(more or [])],
                length,
                pairs=pairs,
                critic=critic,
                precision=precision,
                overwrite=overwrite,
                show_progress=not quiet,
            )
        student = distillation.run()
        text = f"The student: {student}\nLook at its images: snowmelt sample {student}"
        show({"checkpoint": student, "steps": distillation.steps}, text if not quiet else None)
