"""From decoded images to the batches of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from snowmelt.data.augmentation import Augmentation
from snowmelt.data.order import EpochBatches, derived_seed
from snowmelt.formats import ImageSource
from snowmelt.formats.ahead import ahead
from snowmelt.images import from_uint8

__all__ = ["Batch", "Batches"]

Batch = tuple[Tensor, ...]  # images, class labels and, where the augmentation is conditioned, its labels


class Batches:
    """The batches of an epoch, which each iteration makes anew. Its length is their number.

    Args:
        opened: returns the images, with labels; called when an iteration begins.
        wanted: which images, in which order.
        augmentation: random changes; None for none.
        device: where the batches go. They travel as bytes, and become float and augmented there.
        pin_memory: copy faster to a CUDA device.
        num_workers: threads that read ahead.
    """

    def __init__(
        self,
        opened: Callable[[], ImageSource],
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
        assert images.labels is not None
        class_labels = images.labels
        if augmentation is not None:
            # Drawn for all images: those of image i depend on (seed, epoch, i) and not on its batch
            seed = derived_seed(self.wanted.seed, self.wanted.epoch, 1)
            changes = augmentation.draw(len(images), torch.Generator().manual_seed(seed))

        def loaded(numbers: list[int]) -> tuple[list[int], Tensor]:
            return numbers, images.pixels(numbers)

        for numbers, pixels in ahead(loaded, self.wanted, self.num_workers):
            x0, labels = self._moved(pixels), self._moved(class_labels[numbers])
            x0 = from_uint8(x0) if x0.dtype == torch.uint8 else x0
            if augmentation is None:
                yield x0, labels
                continue
            mine = changes[:, numbers]
            x0, told = augmentation(x0, mine), self._moved(augmentation.labels(mine))
            yield (x0, labels, told) if augmentation.conditioned else (x0, labels)

    def _moved(self, tensor: Tensor) -> Tensor:
        return (tensor.pin_memory() if self.pin_memory else tensor).to(self.device, non_blocking=True)
