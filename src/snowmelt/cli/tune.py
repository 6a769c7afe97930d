"""``snowmelt tune CHECKPOINT``: make a sampler for one checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snowmelt.cli.errors import user_errors
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.options import GuidanceScale, Quiet, SamplerOptions, with_groups
from snowmelt.cli.parsing import integers
from snowmelt.text import text_table

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from snowmelt.tuning import Outcome

__all__ = ["tune_command"]


@with_groups
def tune_command(
    model: SamplerOptions,
    nfe: Annotated[
        str, typer.Option("--nfe", metavar="N,N,...", help="Numbers of evaluations, a plan for each.")
    ] = "4,6,8",
    guidance: GuidanceScale = 0.0,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="What is free, by cost: schedule (a solver's times), levels (also what the network is told) "
            "or table (every number).",
        ),
    ] = "table",
    loss: Annotated[
        str, typer.Option("--loss", help="huber, or squares, which counts the worst images most.")
    ] = "huber",
    features: Annotated[
        str,
        typer.Option(
            "--features",
            help="What of the images is compared in the end: pixels, imagenet (sharper images; needs "
            "'snowmelt[evaluate]'), timm:MODEL, or a TorchScript file .pt or .ts.",
        ),
    ] = "pixels",
    num: Annotated[int, typer.Option("--num", min=8, help="Noises that the plans learn from.")] = 96,
    held_out: Annotated[
        int, typer.Option("--held-out", min=8, help="Other noises, which decide what is kept.")
    ] = 96,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the noises.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the plans. Default: beside the checkpoint, where auto looks."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Tune sampling plans for a checkpoint: few evaluations, near to what many would make.

    `--method auto` of sample, generate and evaluate takes them. Ctrl-C keeps the best so far.
    """
    with user_errors(), figures(as_json) as show:
        from snowmelt.models import Checkpoint
        from snowmelt.sampling import DiffusionSampler
        from snowmelt.tuning import Job

        wanted = integers(nfe, "--nfe") or []
        checkpoint = Checkpoint.read(model.checkpoint)
        sampler = DiffusionSampler.from_pretrained(
            checkpoint,
            model.resolved_device(),
            use_ema=not model.no_ema,
            method="balanced",
            precision=model.precision,
        )
        job = Job(
            checkpoint,
            sampler,
            wanted,
            guidance,
            method,
            loss,
            _seen(features, sampler.device),
            num_noises=num,
            num_held_out=held_out,
            seed=seed,
            folder=out,
            show_progress=not quiet,
        )
        job.check()
        outcome = job.run()
        show(outcome.to_dict(), summary(outcome, job.place, features) if not quiet else None)
        if outcome.interrupted:
            raise KeyboardInterrupt


def _seen(features: str, device: str | torch.device) -> Callable[[Tensor], Tensor] | None:
    if features == "pixels":
        return None
    from snowmelt.evaluation.features.smooth import smooth_features

    return smooth_features(features, device)


def summary(outcome: Outcome, folder: Path, features: str) -> str:
    """Return the figures as a table, and which number of evaluations to take."""
    rows = [["evaluations", "untuned", "tuned", "ratio", "seconds", "best untuned plan"]]
    for each, seconds in zip(outcome.tuned, outcome.seconds, strict=True):
        ratio = each.distance / each.start_distance if each.start_distance else 1.0
        figures = [f"{each.start_distance:.4f}", f"{each.distance:.4f}", f"{ratio:.2f}", f"{seconds:.0f}"]
        rows.append([str(each.plan.nfe), *figures, str(each.start.method)])
    lines = [text_table(rows), ""]
    lines += [
        f"Nothing was better than the untuned plan of {each.plan.nfe} evaluations, which is kept."
        for each in outcome.tuned
        if not each.gained
    ]
    if features != "pixels":
        lines.append(f"The distances are those of the features {features}.")
    near = f"within {outcome.tolerance:.4f} of the teacher ({outcome.teacher.method}), as near as balanced"
    if outcome.recommended is None:
        lines.append(f"None of them comes {near}: auto takes the one with the most evaluations.")
    else:
        lines.append(f"Take {outcome.recommended} evaluations: that is {near}. So does auto.")
    return "\n".join([*lines, f"Wrote the plans and their pictures to {folder}"])
