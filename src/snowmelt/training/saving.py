"""Which checkpoints a run writes, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from snowmelt.files import atomic_copy
from snowmelt.training.finite import check_trainer
from snowmelt.training.processes import from_first
from snowmelt.training.shards import gathered

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["Saving", "kept"]

LATEST = "latest.pth"
DEAREST = 0.01  # share of the time that saves by time may take
KINDS = ("epoch", "images")  # of files that stay: epoch_0010.pth, images_0000120000.pth


def kept(folder: Path, kind: str) -> list[Path]:
    """Return the files of a kind that a run has kept beside its latest checkpoint, the newest first."""
    return sorted(folder.glob(f"{kind}_*.pth"), key=lambda path: (len(path.name), path.name), reverse=True)


@dataclass
class Saving:
    """Writes the checkpoints of a run, in all processes at once.

    ``latest.pth`` is written last: what stands beside it is there when a run goes on from it.

    Args:
        trainer: is saved.
        folder: gets the files; None writes none.
        minutes: after which ``latest.pth`` is saved; None for never. Saves take more time where they would
            take more than a hundredth of it otherwise.
        images: after which a file of its own is saved too; None for never.
        keep_last: files of their own that stay, of saved epochs and of `images` each; None for all, 0 to
            write none.
        save_optimizer: so that the files can be resumed from exactly.
        watch: what the best model is best in: ``"loss"``, or a metric of the evaluation.
        maximize: whether more of it is better.
        validates: whether the loss is that of validation, which not every epoch has.
    """

    trainer: DiffusionTrainer
    folder: Path | None
    minutes: float | None
    images: int | None
    keep_last: int | None
    save_optimizer: bool
    watch: str
    maximize: bool
    validates: bool

    def __post_init__(self) -> None:
        """Forget the best value of another metric."""
        self._share, self._images = self.trainer.share, self.trainer.progress.images
        self._saved, self._cost = perf_counter(), 0.0
        done = self.trainer.progress
        if self.watch != done.watched:
            done.watched, done.best_metric = self.watch, -math.inf if self.maximize else math.inf

    def save(self, name: str = LATEST, *copies: str) -> None:
        """Write a checkpoint, and the same under other names; the latest one comes last."""
        if self.folder is None:
            return
        began = perf_counter()
        self.trainer.save_checkpoint(self.folder / name, save_optimizer=self.save_optimizer)
        for copy in copies if self.trainer.accelerator.is_main_process else ():
            if copy == LATEST:
                self._remove_old(self.folder)
            atomic_copy(self.folder / name, self.folder / copy)
        if LATEST in (name, *copies):
            self._saved = perf_counter()
            self._cost = self._saved - began

    def _remove_old(self, folder: Path) -> None:
        for kind in KINDS if self.keep_last else ():
            for old in kept(folder, kind)[self.keep_last :]:
                old.unlink()

    def is_due(self) -> bool:
        """Return whether time asks for a save, in the first process; the others do as it does.

        In a run by the clock, a save must end before the run does.
        """
        if self.minutes is None or self.folder is None or not self.trainer.accelerator.is_main_process:
            return False
        done, length = self.trainer.progress, self.trainer.length
        left = length.amount - done.seconds - done.ending if length and length.by_clock else math.inf
        wait = max(60 * self.minutes, self._cost / DEAREST)
        return perf_counter() - self._saved >= wait and self._cost < left

    def after_step(self, *, is_due: bool) -> None:
        """Write what the step makes due: averages at their moments, a file of so many images, the latest."""
        trainer, before = self.trainer, (self._share, self._images)
        self._share, self._images = trainer.share, trainer.progress.images
        snapshots = trainer.snapshots
        if snapshots is not None and self.folder is not None and snapshots.is_due(before[0], self._share):
            check_trainer(trainer)
            is_main = trainer.accelerator.is_main_process
            like, shadows = trainer.checkpoint(), gathered(snapshots.shadows(), keep=is_main)
            if is_main:
                snapshots.write(self.folder, like, shadows, trainer.global_step)
        if self.images is not None and self._images // self.images > before[1] // self.images:
            self.save(*self._own("images", f"{self._images:010d}"), LATEST)
        elif is_due and self._share < 1:  # its end is saved anyway
            self.save()

    def after_epoch(self, metrics: Mapping[str, float], *, is_due: bool) -> None:
        """Write the best model if these metrics are the best, and the latest one if it is due.

        Without validation, the training loss chooses among the epochs that are saved anyway.
        """
        done = self.trainer.progress
        otherwise = metrics["train_loss"] if is_due and not self.validates else None
        loss = metrics.get("val_loss", otherwise)
        watched = loss if self.watch == "loss" else metrics.get(f"eval_{self.watch}")
        best = from_first(self.trainer.accelerator, watched)
        names = ["best_model.pth"] if done.is_best(best, maximize=self.maximize) else []
        names += self._own("epoch", f"{done.epoch:04d}") if is_due and done.batch == 0 else []
        names += [LATEST] if is_due else []
        if names:
            self.save(*names)

    def _own(self, kind: str, number: str) -> list[str]:
        return [f"{kind}_{number}.pth"] if self.keep_last != 0 else []
