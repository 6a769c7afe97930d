"""The gradient of one step, from one batch or from several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from snowmelt.data.batches import Batch
from snowmelt.data.order import place
from snowmelt.training.draws import draw

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["add_gradients", "groups"]

T = TypeVar("T")

DRAWS = 2  # tells the seeds of draws from those of order and augmentation


def groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `size`; the last one may be shorter.

    >>> list(groups(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def add_gradients(trainer: DiffusionTrainer, batches: Sequence[Batch]) -> tuple[Tensor, int]:
    """Add the gradient of the mean loss over all images of some batches, in all processes together.

    It is that of one large batch, whatever the sizes of the parts. Only one part is in memory at a time, with
    what its gradient needs. Several processes exchange their gradients once, with the last part.

    Returns:
        The loss, a scalar whose mean over the processes is that of the images; and their number.
    """
    done, data, process = trainer.progress, trainer.dataloader, trainer.process
    numbers = range(done.batch, done.batch + len(batches))
    places = [place(number, data.batch_size, trainer.an_epoch.images, process) for number in numbers]
    first, images = places[0].whole.start, sum(len(each.whole) for each in places)
    seed = getattr(data, "seed", 0), done.epoch, DRAWS, first
    draws = draw(trainer.model, trainer.objective["times"], images, *seed)
    total = torch.zeros((), device=trainer.accelerator.device)
    for index, ((x0, *labels), each) in enumerate(zip(batches, places, strict=True), start=1):
        own = draws.part(each.own.start - first, each.own.stop - first)
        alone = index < len(batches)
        with trainer.accelerator.no_sync(trainer.network) if alone else nullcontext():
            loss = trainer.loss(trainer, x0, *labels, draws=own)
            # The processes take the mean of their gradients
            share = loss * (each.counted * process[1] / images)
            trainer.accelerator.backward(share)
        total += share.detach()
    return total, images
