"""What a trainer asks of its data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from snowmelt.data.batches import Batch

__all__ = ["TrainingData"]


class TrainingData(Protocol):
    """Examples in batches, in an order that follows from seed and epoch: `snowmelt.data.DiffusionDataLoader`.

    Where they have `class_names`, a `background`, `class_weights`, or what decides their order (`seed`,
    `shuffle_train`, `drop_last`), a trainer reads these too.

    Attributes:
        batch_size: of each process.
        num_train_images: to learn from.
        num_epoch_images: that an epoch shows.
        num_val_images: to validate on.
    """

    batch_size: int
    num_train_images: int
    num_epoch_images: int
    num_val_images: int

    def prepare(self, *, write: bool = True) -> None:
        """Read what can be read before the first batch; leave no file behind without `write`."""

    def batches_per_epoch(self, process: tuple[int, int] = (0, 1)) -> int:
        """Return how many batches a process sees in an epoch."""

    def train_loader(
        self, epoch: int, start_batch: int = 0, process: tuple[int, int] = (0, 1)
    ) -> Iterable[Batch]:
        """Return the batches of an epoch, from `start_batch` on."""

    def val_loader(self) -> Iterable[Batch] | None:
        """Return all validation batches, in order; None without any."""
