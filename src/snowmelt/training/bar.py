"""The progress of a run as users see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from snowmelt.progress import progress
from snowmelt.training.clock import StepClock
from snowmelt.training.length import Length

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["advance", "make_bar", "make_clock", "show_metrics"]


def make_bar(trainer: DiffusionTrainer, length: Length) -> tqdm[Any]:
    """Return the bar over the images of the run, those before a resume included."""
    done = trainer.progress
    total = done.images + length.images_left(done, trainer.an_epoch)
    options = {"initial": done.images, "total": total, "unit": " images"}
    return progress(None, "Training", show=trainer.show_progress, unit_scale=True, **options)


def make_clock(trainer: DiffusionTrainer, length: Length) -> StepClock:
    """Return a clock of the first steps, which knows how many are left of the run."""
    done, epoch = trainer.progress, trainer.an_epoch
    say = tqdm.write if trainer.show_progress else None
    return StepClock(epoch.steps, length.steps_left(done, epoch), done.wait, say=say)


def advance(bar: tqdm[Any], images: int) -> None:
    """Count the images of a step; the last one may go beyond the end of the run."""
    bar.total = max(bar.total or 0, bar.n + images)
    bar.update(images)


def show_metrics(bar: tqdm[Any], epoch: int, metrics: Mapping[str, float]) -> None:
    """Write metrics behind the bar."""
    bar.set_postfix({"epoch": epoch, **{k: f"{v:.4f}" for k, v in metrics.items()}}, refresh=False)
