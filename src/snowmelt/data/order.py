"""Which images a batch holds: an order that follows from seed and epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = ["EpochBatches", "derived_seed"]


class EpochBatches:
    """The batches of one epoch, in an order that depends on (seed, epoch) alone.

    Args:
        num_images: images that the epoch shows.
        batch_size: images of a batch.
        shuffle: True for a random order, False for the order of the data set.
        draw: makes the random order, (num_images,) numbers; None for a permutation.
        drop_last: leave out the last batch if it is not full.
        seed, epoch: decide the order.
        start: batches to leave out at the beginning, for a run that is resumed within an epoch.
        process: (rank, number of processes). The processes take turns, and all get equally many batches.

    >>> list(EpochBatches(5, batch_size=2, shuffle=False))
    [[0, 1], [2, 3], [4]]
    >>> whole = list(EpochBatches(100, 7, seed=3, epoch=2))
    >>> list(EpochBatches(100, 7, seed=3, epoch=2, start=5)) == whole[5:]
    True
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        *,
        shuffle: bool = True,
        draw: Callable[[torch.Generator], Tensor] | None = None,
        drop_last: bool = False,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        process: tuple[int, int] = (0, 1),
    ) -> None:
        self.num_images, self.batch_size = num_images, batch_size
        self.shuffle, self.draw, self.seed, self.epoch = shuffle, draw, seed, epoch
        rank, processes = process
        batches = num_images // batch_size if drop_last else -(-num_images // batch_size)
        self.chosen = range(batches)[rank : batches - batches % processes : processes][start:]

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.num_images)
        if self.shuffle:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
            order = (
                self.draw(generator) if self.draw else torch.randperm(self.num_images, generator=generator)
            )
        for batch in self.chosen:
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()


def derived_seed(*numbers: int) -> int:
    """Return a seed that depends on all of `numbers` and nothing else."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])
