"""Which checkpoints a run writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snowmelt.files import atomic_copy
from snowmelt.training.finite import check_trainer
from snowmelt.training.processes import from_first

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["Saving"]


@dataclass
class Saving:
    """Writes the checkpoints of a run, in all processes at once.

    Args:
        trainer: is saved.
        folder: gets the files; None writes none.
        every_epoch: keep a file of each saved epoch.
        save_optimizer: so that the files can be resumed from exactly.
        watch: what the best model is best in: ``"loss"``, or a metric of the evaluation.
        maximize: whether more of it is better.
        validates: whether the loss is that of validation, which not every epoch has.
    """

    trainer: DiffusionTrainer
    folder: Path | None
    every_epoch: bool
    save_optimizer: bool
    watch: str
    maximize: bool
    validates: bool

    def __post_init__(self) -> None:
        """Forget the best value of another metric."""
        self._share = self.trainer.share
        done = self.trainer.progress
        if self.watch != done.watched:
            done.watched, done.best_metric = self.watch, -math.inf if self.maximize else math.inf

    def save(self, name: str, *copies: str) -> None:
        """Write a checkpoint, and the same under other names."""
        if self.folder is not None:
            self.trainer.save_checkpoint(self.folder / name, save_optimizer=self.save_optimizer)
            for copy in copies if self.trainer.accelerator.is_main_process else ():
                atomic_copy(self.folder / name, self.folder / copy)

    def after_step(self) -> None:
        """Write a snapshot of the tracked averages at its moments."""
        before, self._share = self._share, self.trainer.share
        snapshots = self.trainer.snapshots
        if snapshots is None or self.folder is None or not snapshots.is_due(before, self._share):
            return
        check_trainer(self.trainer)
        if self.trainer.accelerator.is_main_process:
            snapshots.write(self.folder, self.trainer.checkpoint(), self.trainer.global_step)

    def after_epoch(self, metrics: Mapping[str, float], *, is_due: bool) -> None:
        """Write the best model if these metrics are the best, and the latest one if it is due."""
        done = self.trainer.progress
        loss = metrics.get("val_loss", None if self.validates else metrics["train_loss"])
        watched = loss if self.watch == "loss" else metrics.get(f"eval_{self.watch}")
        best = from_first(self.trainer.accelerator, watched)
        names = ["best_model.pth"] if done.is_best(best, maximize=self.maximize) else []
        names += ["latest.pth"] if is_due else []
        names += [f"epoch_{done.epoch:04d}.pth"] if is_due and self.every_epoch and done.batch == 0 else []
        if names:
            self.save(*names)
