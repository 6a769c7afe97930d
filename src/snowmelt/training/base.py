"""The loop over epochs, whatever is trained."""

from __future__ import annotations

import math
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from snowmelt.progress import progress

__all__ = ["BaseTrainer", "Interrupt"]


class Interrupt:
    """Whether Ctrl-C was pressed; asked between two steps, so that no step is left half done."""

    def __init__(self) -> None:
        self.requested = False

    def raise_if_requested(self) -> None:
        """Raise the KeyboardInterrupt that was held back."""
        if self.requested:
            raise KeyboardInterrupt

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Hold back the first Ctrl-C; a second one interrupts at once. Only in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(signum: int, frame: FrameType | None) -> None:
            self.requested = True
            signal.signal(signal.SIGINT, previous)

        previous = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)


class BaseTrainer(ABC):
    """Abstract: epochs of training and validation, with checkpoints, until the last epoch or Ctrl-C.

    A subclass says what an epoch is and what a checkpoint holds.

    Attributes:
        epoch: epochs completed.
        watched: name of the metric that says which model is the best.
        best_metric: its best value so far.
        show_progress: show a bar over the epochs.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.watched = "loss"
        self.best_metric = math.inf
        self.show_progress = False
        self.interrupt = Interrupt()

    @abstractmethod
    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch (or for what is left of it) and return its metrics, ``loss`` among them."""

    @abstractmethod
    def validate_epoch(self) -> dict[str, float]:
        """Return the metrics of the held-out data, ``loss`` among them; empty if there is none."""

    @abstractmethod
    def evaluate_epoch(self) -> dict[str, float]:
        """Return metrics of what the model generates; empty if none are asked for."""

    @abstractmethod
    def end_epoch(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics of the epoch that has just been completed."""

    @abstractmethod
    def save_checkpoint(self, path: str | Path, *, save_optimizer: bool = True) -> None:
        """Write everything that `load_checkpoint` needs to go on."""

    @abstractmethod
    def load_checkpoint(self, path: str | Path) -> None:
        """Go back to the state in which the checkpoint was written."""

    def train(
        self,
        num_epochs: int,
        checkpoint_dir: str | Path | None = None,
        *,
        save_frequency: int = 1,
        save_best_only: bool = False,
        save_optimizer: bool = True,
        validate_frequency: int | None = 1,
        evaluate_frequency: int | None = None,
        watch: str = "loss",
        maximize: bool = False,
    ) -> dict[str, float]:
        """Train until `num_epochs` epochs are completed, counting those before a resume.

        Writes ``latest.pth`` every `save_frequency` epochs and at the end, ``best_model.pth`` whenever the
        watched metric is better than ever, and one file a saved epoch unless `save_best_only`. On Ctrl-C the
        step at hand is finished, ``latest.pth`` written, and KeyboardInterrupt raised; a resumed run goes on
        at the next batch.

        Args:
            num_epochs: >= 1.
            checkpoint_dir: where checkpoints go; None writes none.
            save_frequency: epochs between two saves, >= 1.
            save_best_only: keep no file for each saved epoch.
            save_optimizer: without its state a checkpoint is smaller and cannot be resumed exactly.
            validate_frequency: epochs between two validations; None never validates.
            evaluate_frequency: epochs between two evaluations of generated images; None never evaluates.
            watch: ``"loss"`` (that of the validation where there is one, of the training otherwise), or the
                name of a metric of the evaluation.
            maximize: whether more of the watched metric is better.

        Returns:
            The metrics of the last epoch.

        Raises:
            FloatingPointError: the loss is not finite any more. No checkpoint is overwritten.
        """
        directory = Path(checkpoint_dir) if checkpoint_dir is not None else None
        if watch != self.watched:
            self.watched, self.best_metric = watch, -math.inf if maximize else math.inf
        metrics: dict[str, float] = {}

        def save(name: str) -> None:
            if directory is not None:
                self.save_checkpoint(directory / name, save_optimizer=save_optimizer)

        bar = progress(
            None,
            "Training",
            show=self.show_progress,
            total=num_epochs,
            initial=self.epoch,
            unit="epoch",
        )
        with self.interrupt.held_back(), bar:
            while self.epoch < num_epochs:
                try:
                    metrics = {f"train_{name}": value for name, value in self.train_epoch().items()}
                except KeyboardInterrupt:
                    save("latest.pth")
                    raise
                if not math.isfinite(metrics["train_loss"]):
                    raise FloatingPointError(
                        f"the training loss is {metrics['train_loss']} in epoch {self.epoch}: lower the "
                        "learning rate or clip gradients; the last checkpoint is as it was before this epoch"
                    )
                last = self.epoch == num_epochs
                if validate_frequency is not None and (self.epoch % validate_frequency == 0 or last):
                    metrics |= {f"val_{name}": value for name, value in self.validate_epoch().items()}
                if evaluate_frequency is not None and (self.epoch % evaluate_frequency == 0 or last):
                    metrics |= {f"eval_{name}": value for name, value in self.evaluate_epoch().items()}
                self.end_epoch(metrics)
                bar.set_postfix({k: f"{v:.4f}" for k, v in metrics.items()}, refresh=False)
                bar.update()

                found = _watched(metrics, watch)
                if found is not None and (found > self.best_metric if maximize else found < self.best_metric):
                    self.best_metric = found
                    save("best_model.pth")
                if self.epoch % save_frequency == 0 or last:
                    save("latest.pth")
                    if not save_best_only:
                        save(f"epoch_{self.epoch:04d}.pth")
        return metrics


def _watched(metrics: Mapping[str, float], name: str) -> float | None:
    """Return a metric of an epoch; None where it has not been measured in this one."""
    if name == "loss":
        return metrics.get("val_loss", metrics["train_loss"])
    return metrics.get(f"eval_{name}")
