"""From decoded images to the batches of an epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from snowmelt.data.augmentation import Augmentation
from snowmelt.data.images import Images
from snowmelt.data.order import EpochBatches, derived_seed
from snowmelt.images import from_uint8

__all__ = ["Batch", "Batches", "ahead"]

Batch = tuple[Tensor, ...]  # images, class labels and, where the augmentation is conditioned, its labels
Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches:
    """The batches of an epoch, which each iteration makes anew. Its length is their number.

    Args:
        opened: returns the images; called when an iteration begins.
        wanted: which images, in which order.
        augmentation: random changes; None for none.
        device: where the batches go. They travel as bytes, and become float and augmented there.
        pin_memory: copy faster to a CUDA device.
        num_workers: threads that read ahead.
    """

    def __init__(
        self,
        opened: Callable[[], Images],
        wanted: EpochBatches,
        augmentation: Augmentation | None = None,
        *,
        device: torch.device,
        pin_memory: bool = False,
        num_workers: int = 0,
    ) -> None:
        self.opened, self.wanted, self.augmentation = opened, wanted, augmentation
        self.device, self.pin_memory, self.num_workers = device, pin_memory, num_workers

    def __len__(self) -> int:
        return len(self.wanted)

    def __iter__(self) -> Iterator[Batch]:
        images, augmentation = self.opened(), self.augmentation
        if augmentation is not None:
            # Drawn for all images: those of image i depend on (seed, epoch, i) and not on its batch
            seed = derived_seed(self.wanted.seed, self.wanted.epoch, 1)
            changes = augmentation.draw(len(images), torch.Generator().manual_seed(seed))

        def loaded(numbers: list[int]) -> tuple[list[int], Tensor]:
            return numbers, images.read(numbers)

        for numbers, pixels in ahead(loaded, self.wanted, self.num_workers):
            x0, labels = self._moved(pixels), self._moved(images.labels[numbers])
            x0 = from_uint8(x0) if x0.dtype == torch.uint8 else x0
            if augmentation is None:
                yield x0, labels
                continue
            mine = changes[:, numbers]
            x0, told = augmentation(x0, mine), self._moved(augmentation.labels(mine))
            yield (x0, labels, told) if augmentation.conditioned else (x0, labels)

    def _moved(self, tensor: Tensor) -> Tensor:
        return (tensor.pin_memory() if self.pin_memory else tensor).to(self.device, non_blocking=True)


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int = 0
) -> Iterator[Result]:
    """Yield `function` of each item in order; so many threads work ahead, or none, and then this one does.

    Threads are enough: Pillow and torch let others run while they decode, resize and copy.

    >>> list(ahead(str.upper, "abc", num_workers=2))
    ['A', 'B', 'C']
    """
    if not num_workers:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(num_workers)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also where the caller leaves in the middle: nobody waits for what was read ahead
        for future in waiting:
            future.cancel()
        pool.shutdown(wait=False)
