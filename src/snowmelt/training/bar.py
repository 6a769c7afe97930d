"""The progress of a run as users see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from snowmelt.progress import progress
from snowmelt.training.clock import StepClock

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["images_in", "make_bar", "make_clock", "show_metrics"]


def images_in(trainer: DiffusionTrainer, epochs: int, batches: int) -> int:
    """Return how many images all processes see in so many epochs, and batches of each process."""
    data = trainer.dataloader
    a_batch = data.batch_size * trainer.accelerator.num_processes
    an_epoch = min(data.batches_per_epoch(trainer.process) * a_batch, data.num_train_images)
    images: int = epochs * an_epoch + batches * a_batch
    return images


def make_bar(trainer: DiffusionTrainer, num_epochs: int) -> tqdm[Any]:
    """Return the bar over the images of the run, those before a resume included."""
    done = trainer.progress
    ahead = max(0, images_in(trainer, num_epochs - done.epoch, -done.batch))
    options = {"initial": done.images, "total": done.images + ahead, "unit": " images"}
    return progress(None, "Training", show=trainer.show_progress, unit_scale=True, **options)


def make_clock(trainer: DiffusionTrainer, num_epochs: int) -> StepClock:
    """Return a clock of the first steps, which knows how many `num_epochs` epochs take in all."""
    done, an_epoch = trainer.progress, trainer.dataloader.batches_per_epoch(trainer.process)
    left = max(0, (num_epochs - done.epoch) * an_epoch - done.batch)
    return StepClock(an_epoch, left, done.wait, say=tqdm.write if trainer.show_progress else None)


def show_metrics(bar: tqdm[Any], epoch: int, metrics: Mapping[str, float]) -> None:
    """Write metrics behind the bar."""
    bar.set_postfix({"epoch": epoch, **{k: f"{v:.4f}" for k, v in metrics.items()}}, refresh=False)
