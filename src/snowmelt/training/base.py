"""What every trainer can do, for a caller that does not care what is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from snowmelt.training.state import Progress

__all__ = ["BaseTrainer"]


class BaseTrainer(ABC):
    """Abstract: the interface of a trainer. `snowmelt.DiffusionTrainer` is the one of this library.

    Attributes:
        progress: how far the run has come.
    """

    progress: Progress

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.progress.epoch

    @property
    def global_step(self) -> int:
        """Optimizer steps so far."""
        return self.progress.global_step

    @abstractmethod
    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch, or for what is left of it, and return its metrics, ``loss`` among them."""

    @abstractmethod
    def validate_epoch(self) -> dict[str, float]:
        """Return the metrics of the held-out data, ``loss`` among them; empty if there is none."""

    @abstractmethod
    def save_checkpoint(self, path: str | Path) -> None:
        """Write everything that `load_checkpoint` needs in order to go on."""

    @abstractmethod
    def load_checkpoint(self, path: str | Path) -> None:
        """Go back to the state in which the checkpoint was written."""
