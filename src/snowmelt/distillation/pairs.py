"""Pairs of noise and image, as a trainer reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from snowmelt.data.batches import Batch
from snowmelt.data.order import EpochBatches

__all__ = ["Pairs"]

HELD_OUT = 17  # every 17th pair is for validation: a prime, so that all classes have their turn


class Pairs:
    """What a teacher has made of noise: `snowmelt.data.TrainingData`.

    A batch is images, class labels and noise.

    Args:
        noise: (N, C, H, W) standard normal.
        images: that the teacher makes of it, alike in shape.
        labels: (N,) their classes.
        batch_size: of each process.
        class_names: of the classes, if they are known.
        seed: of the order.

    >>> import torch
    >>> pairs = Pairs(torch.randn(34, 1, 2, 2), torch.zeros(34, 1, 2, 2), torch.zeros(34), batch_size=20)
    >>> pairs.num_train_images, pairs.num_val_images, [len(batch[0]) for batch in pairs.train_loader(epoch=0)]
    (32, 2, [20, 12])
    """

    def __init__(
        self,
        noise: Tensor,
        images: Tensor,
        labels: Tensor,
        batch_size: int = 64,
        class_names: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.class_names = class_names
        self.batch_size, self.seed, self.shuffle_train, self.drop_last = batch_size, seed, True, False
        held_out = slice(HELD_OUT - 1, None, HELD_OUT)
        self._val = tuple(each[held_out] for each in (images, labels, noise))
        rest = [number for number in range(len(images)) if number % HELD_OUT != HELD_OUT - 1]
        self._train = tuple(each[rest] for each in (images, labels, noise))
        self.num_train_images = self.num_epoch_images = len(rest)
        self.num_val_images = len(images) - len(rest)

    def prepare(self, *, write: bool = True) -> None:
        """Do nothing: all pairs are in memory."""

    def batches_per_epoch(self, process: tuple[int, int] = (0, 1)) -> int:
        """Return how many batches a process sees in an epoch."""
        return len(self._batches(0, 0, process))

    def train_loader(
        self, epoch: int, start_batch: int = 0, process: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """Return the batches of an epoch, from `start_batch` on: images, class labels and noise."""
        wanted = self._batches(epoch, start_batch, process)
        return (tuple(each[numbers] for each in self._train) for numbers in wanted)

    def val_loader(self) -> Iterator[Batch] | None:
        """Return the held-out batches, in order; None if there are too few pairs for any."""
        if not self.num_val_images:
            return None
        wanted = EpochBatches(self.num_val_images, self.batch_size, shuffle=False)
        return (tuple(each[numbers] for each in self._val) for numbers in wanted)

    def _batches(self, epoch: int, start: int, process: tuple[int, int]) -> EpochBatches:
        return EpochBatches(
            self.num_epoch_images, self.batch_size, seed=self.seed, epoch=epoch, start=start, process=process
        )
