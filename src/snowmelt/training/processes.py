"""What the processes of a training run tell each other, and the random stream that each of them has."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

from snowmelt.data.order import derived_seed
from snowmelt.errors import InputError
from snowmelt.text import counted

if TYPE_CHECKING:
    from accelerate import Accelerator

    from snowmelt.data import TrainingData

__all__ = ["check_batches", "from_first", "largest", "of_all", "own_stream"]

T = TypeVar("T")


def check_batches(dataloader: TrainingData, process: tuple[int, int]) -> None:
    """Refuse data without a batch that is full in all processes, where others are left out."""
    if not dataloader.batches_per_epoch(process):
        raise InputError(
            f"{counted(dataloader.num_train_images, 'image')} in batches of {dataloader.batch_size}: too few "
            f"for {counted(process[1], 'process')}, since drop_last leaves out batches that are not full; "
            "lower batch_size, start fewer processes, or set drop_last to false"
        )


def of_all(accelerator: Accelerator, value: T) -> list[T]:
    """Return what each process gives, in their order. All of them must call this."""
    if accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object

    values: list[T] = gather_object([value])
    return values


def largest(accelerator: Accelerator, *numbers: float) -> tuple[float, ...]:
    """Return the largest that the processes give of each number. All of them must call this.

    It does not wait for what a GPU has yet to do.
    """
    if accelerator.num_processes == 1:
        return numbers
    found = torch.tensor(numbers, dtype=torch.float64)
    distributed.all_reduce(found, distributed.ReduceOp.MAX, _on_cpu(distributed.group.WORLD))
    return tuple(found.tolist())


@cache
def _on_cpu(world: Any) -> Any:
    """Return a group of all processes that talk from memory to memory."""
    return world if distributed.get_backend(world) == "gloo" else distributed.new_group(backend="gloo")


def from_first(accelerator: Accelerator, value: T) -> T:
    """Return what the first process gives. All of them must call this."""
    if accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    values: list[Any] = broadcast_object_list([value])
    first: T = values[0]
    return first


def own_stream(accelerator: Accelerator, step: int = 0) -> None:
    """Give each process but the first a stream of its own, which its network's dropout draws from.

    The stream follows from the seed that all of them share, the process and the step. Noise levels and noise
    are no part of it, as `snowmelt.training.draws` says.
    """
    if rank := accelerator.process_index:
        torch.manual_seed(derived_seed(torch.initial_seed() % 2**63, rank, step))
