"""What the processes of a training run tell each other, and the random stream that each of them has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch

from snowmelt.data.order import derived_seed
from snowmelt.errors import InputError
from snowmelt.text import counted

if TYPE_CHECKING:
    from accelerate import Accelerator

    from snowmelt.data import DiffusionDataLoader

__all__ = ["check_batches", "from_first", "largest", "of_all", "own_stream"]

T = TypeVar("T")
N = TypeVar("N", int, float)


def check_batches(dataloader: DiffusionDataLoader, process: tuple[int, int]) -> None:
    """Refuse data of fewer batches than processes."""
    if not dataloader.batches_per_epoch(process):
        raise InputError(
            f"{counted(dataloader.num_train_images, 'image')} in batches of {dataloader.batch_size}: too few "
            f"for {counted(process[1], 'process')}; lower batch_size, or start fewer processes"
        )


def of_all(accelerator: Accelerator, value: T) -> list[T]:
    """Return what each process gives, in their order. All of them must call this."""
    if accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object

    values: list[T] = gather_object([value])
    return values


def largest(accelerator: Accelerator, value: N) -> N:
    """Return the largest of the numbers that the processes give. All of them must call this."""
    if accelerator.num_processes == 1:
        return value
    found = accelerator.gather(torch.tensor([value], device=accelerator.device)).max().item()
    return type(value)(found)


def from_first(accelerator: Accelerator, value: T) -> T:
    """Return what the first process gives. All of them must call this."""
    if accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    values: list[Any] = broadcast_object_list([value])
    first: T = values[0]
    return first


def own_stream(accelerator: Accelerator, step: int = 0) -> None:
    """Give each process but the first a stream of times, noise and dropout of its own.

    The stream follows from the seed that all of them share, the process and the step.
    """
    if rank := accelerator.process_index:
        torch.manual_seed(derived_seed(torch.initial_seed() % 2**63, rank, step))
