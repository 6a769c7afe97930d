"""The files that a run leaves in its folders: which one to go on from, what to remove before a new run."""

from __future__ import annotations

import warnings
from pathlib import Path

from snowmelt.formats import SPLIT_NAME
from snowmelt.models import Checkpoint, CheckpointError
from snowmelt.models.post_hoc import FOLDER
from snowmelt.training.accelerator import is_first_process
from snowmelt.training.record import METRICS
from snowmelt.training.report import REPORT
from snowmelt.training.resume import newest_first, read_resumable

__all__ = ["newest_whole", "remove_run"]


def newest_whole(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint of a run that can be read; a warning names those that cannot."""
    damaged: list[CheckpointError] = []
    for path in newest_first(folder):
        try:
            checkpoint = read_resumable(path)
        except CheckpointError as error:
            damaged.append(error)
        else:
            if damaged and is_first_process():
                said = "\n".join(map(str, damaged))
                warnings.warn(f"{said}\nThe one before is used instead: {path}", stacklevel=2)
            return checkpoint
    if damaged:
        raise damaged[0]
    return None


def remove_run(checkpoints: Path, logs: Path, samples: Path) -> None:
    """Remove what an earlier run has written, and nothing else."""
    files = [
        *newest_first(checkpoints),
        *(logs / name for name in (METRICS, "losses.png", REPORT)),
        checkpoints / SPLIT_NAME,
        *(checkpoints / FOLDER).glob("ema_*.safetensors"),
        *logs.glob("events.out.tfevents.*"),
        *(logs / name for name in ("wandb.id", "mlflow.id")),
        *(path for name in ("samples", "denoising") for path in samples.glob(f"{name}_{'[0-9]' * 7}.png")),
    ]
    for path in files:
        path.unlink(missing_ok=True)
