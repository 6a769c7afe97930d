"""The gradient of one step, from one batch or from several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from snowmelt.data.batches import Batch
from snowmelt.training.loss import batch_loss

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["add_gradients", "groups"]

T = TypeVar("T")


def groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `size`; the last one may be shorter.

    >>> list(groups(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def add_gradients(trainer: DiffusionTrainer, batches: Sequence[Batch]) -> Tensor:
    """Add the gradient of the mean loss over all images of some batches, and return that loss, a scalar.

    It is that of one large batch, whatever the sizes of the parts. Only one part is in memory at a time, with
    what its gradient needs. Several processes exchange their gradients once, with the last part.
    """
    images = sum(len(x0) for x0, *_ in batches)
    total = torch.zeros((), device=trainer.accelerator.device)
    for index, (x0, *labels) in enumerate(batches, start=1):
        alone = index < len(batches)
        with trainer.accelerator.no_sync(trainer.network) if alone else nullcontext():
            loss = batch_loss(trainer, x0, *labels, class_dropout_prob=trainer.model.class_dropout_prob)
            share = loss * (len(x0) / images)
            trainer.accelerator.backward(share)
        total += share.detach()
    return total
