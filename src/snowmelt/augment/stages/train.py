"""Train: the model of `train.yaml`."""

from __future__ import annotations

import shutil

from snowmelt.augment.job import TRAINING, AugmentJob
from snowmelt.augment.stage import Stage
from snowmelt.errors import InputError
from snowmelt.text import duration, seconds_in
from snowmelt.training.run import TrainingRun

__all__ = ["TRAIN"]


def _run(job: AugmentJob, anew: bool) -> str:
    config = job.train_config
    if config.training.evaluation.enabled:
        raise InputError("train.training.evaluation is not for this job, which measures by itself")
    if anew:
        shutil.rmtree(job.folder / "model", ignore_errors=True)
    run = TrainingRun(config, job.device)
    run.check()
    run.run()
    model = job.checkpoint
    seen = model.training.get("images", 0)
    return f"{model.model().num_parameters:,} parameters learned from {seen:,} images"


def _forecast(job: AugmentJob) -> str:
    return f"{duration(TRAINING * seconds_in(job.config.budget))}, unless train states another length"


TRAIN = Stage(
    "train",
    "the model",
    decided_by=lambda job: job.train_file.read_text(encoding="utf-8"),
    forecast=_forecast,
    run=_run,
    command=lambda job: f"snowmelt train {job.train_file}",
)
