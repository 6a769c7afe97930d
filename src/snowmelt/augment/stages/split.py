"""Split: which images train, which validate, and which test once, at the end."""

from __future__ import annotations

from snowmelt.augment.division import PARTS
from snowmelt.augment.job import AugmentJob
from snowmelt.augment.stage import Stage

__all__ = ["SPLIT"]


def _run(job: AugmentJob, anew: bool) -> str:
    if anew:
        job.split_file.unlink(missing_ok=True)
        job.__dict__.pop("division", None)
    job.division.write(job.split_file)
    return _counts(job)


def _counts(job: AugmentJob) -> str:
    parts = list(job.division.parts.values())
    train, val, test = (f"{parts.count(part):,}" for part in PARTS)
    return f"{train} images to train, {val} to validate, and {test} to test once, at the end"


SPLIT = Stage(
    "split",
    "which images train, validate and test",
    decided_by=lambda job: (job.config.data, job.config.split.model_dump()),
    forecast=_counts,
    run=_run,
    command=lambda job: f"data.split={{train: {job.config.split.train}, ...}} of snowmelt train",
)
