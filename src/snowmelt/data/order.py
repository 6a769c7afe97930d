"""Which images a batch holds: an order that follows from seed and epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["EpochBatches", "Place", "derived_seed", "place"]


class Place(NamedTuple):
    """Where a batch stands in the order of its epoch.

    Attributes:
        whole: the positions of its images, in all processes together.
        own: those of this process; never empty.
        counted: how many of its own count. It is 0 where a batch has fewer images than there are processes:
            then this one looks at the first image, only to keep step with the others.
    """

    whole: range
    own: range
    counted: int


def place(batch: int, batch_size: int, num_images: int, process: tuple[int, int] = (0, 1)) -> Place:
    """Return where a batch stands, which the processes share evenly.

    Args:
        batch: its number in the epoch.
        batch_size: images of each process, if the batch is full.
        num_images: of the epoch.
        process: (rank, number of processes).

    >>> [place(1, 4, 13, (rank, 2)).own for rank in (0, 1)]
    [range(8, 10), range(10, 13)]
    """
    rank, processes = process
    start = batch * batch_size * processes
    whole = range(start, min(start + batch_size * processes, num_images))
    first, last = (start + part * len(whole) // processes for part in (rank, rank + 1))
    return Place(whole, range(first, last) or whole[:1], last - first)


class EpochBatches:
    """The batches of one epoch, in an order that depends on (seed, epoch) alone.

    Args:
        num_images: images that the epoch shows.
        batch_size: images of a batch of each process.
        shuffle: True for a random order, False for the order of the data set.
        draw: makes the random order, (num_images,) numbers; None for a permutation.
        drop_last: leave out the last batch if it is not full, in all processes together.
        seed, epoch: decide the order.
        start: batches to leave out at the beginning, for a run that is resumed within an epoch.
        process: (rank, number of processes). They share each batch, as `place` says, and so the whole epoch.

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
        self.process = process
        together = batch_size * process[1]
        batches = num_images // together if drop_last else -(-num_images // together)
        self.chosen = range(batches)[start:]

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
            own = place(batch, self.batch_size, self.num_images, self.process).own
            yield order[own.start : own.stop].tolist()


def derived_seed(*numbers: int) -> int:
    """Return a seed that depends on all of `numbers` and nothing else."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])
