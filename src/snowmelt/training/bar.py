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
    options = {"initial": done.images, "total": _total(trainer, length), "unit": " images"}
    return progress(None, "Training", show=trainer.show_progress, unit_scale=True, **options)


def make_clock(trainer: DiffusionTrainer, length: Length) -> StepClock:
    """Return a clock of the first steps, which knows how many are left of the run."""
    done, epoch = trainer.progress, trainer.an_epoch
    say = tqdm.write if trainer.show_progress else None
    left = length.steps_left(done, epoch) if not length.by_clock else None
    return StepClock(epoch.steps, left, done.wait, say=say)


def advance(bar: tqdm[Any], images: int) -> None:
    """Count the images of a step; the last one may go beyond the end of the run."""
    if bar.total is not None:
        bar.total = max(bar.total, bar.n + images)
    bar.update(images)


def show_metrics(bar: tqdm[Any], trainer: DiffusionTrainer, metrics: Mapping[str, float]) -> None:
    """Write metrics behind the bar; of a run by the clock, also what it will come to at the speed so far."""
    if trainer.length is not None and trainer.length.by_clock:
        bar.total = _total(trainer, trainer.length)
    shown = {name: f"{value:.4f}" for name, value in metrics.items()}
    bar.set_postfix({"epoch": trainer.epoch, **shown}, refresh=False)


def _total(trainer: DiffusionTrainer, length: Length) -> int | None:
    """Return how many images the run will have seen; None where nobody knows yet."""
    left = length.images_left(trainer.progress, trainer.an_epoch)
    return trainer.progress.images + left if left else None
