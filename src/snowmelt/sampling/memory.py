"""Choose a batch size that fits into memory, and make it smaller if memory runs out."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable, Generator, Sequence

import psutil
import torch
from torch import Tensor

from snowmelt.plans import Plan

__all__ = [
    "auto_batch_size",
    "batches_with_backoff",
    "free_bytes",
    "state_bytes",
    "used_bytes",
]

LARGEST = 256  # a larger batch is not faster, and shows its first images later


def free_bytes(device: str | torch.device) -> int:
    """Return how much memory is free where `device` computes."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    return int(psutil.virtual_memory().available)


def used_bytes(device: str | torch.device) -> int:
    """Return the most memory that this process has used so far where `device` computes."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes on macOS, KiB on Linux


def state_bytes(plan: Plan, image_shape: Sequence[int]) -> int:
    """Return what one image holds in memory while `plan` runs, the network's own needs aside.

    That is the two states and the two noises of a row, the outputs that are remembered, and as much again
    for what guidance and thresholds compute from them, in float32.

    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.plans import make_plan
    >>> state_bytes(make_plan(RectifiedFlow(), "ddim", steps=4), (3, 32, 32)) // (3 * 32 * 32)
    48
    """
    return 4 * math.prod(image_shape) * 2 * (plan.history + 5)


def auto_batch_size(
    plan: Plan,
    image_shape: Sequence[int],
    device: str | torch.device,
    micro_batch: int,
    evaluate: Callable[[], object],
    share: float = 0.5,
) -> int:
    """Return a batch size that fits into a share of the free memory: whole micro-batches, at most 256 images.

    Args:
        plan: what is run.
        image_shape: (C, H, W).
        device: where.
        micro_batch: images in one call of the network, whose own memory therefore does not grow.
        evaluate: calls the network once, to see what it needs; measured on CUDA only.
        share: of the free memory, in (0, 1]; half leaves room for others on the same machine.
    """
    budget = int(share * (free_bytes(device) - _peak_bytes(evaluate, device)))
    fitting = budget // state_bytes(plan, image_shape)
    fitting = min(fitting, max(LARGEST, micro_batch))
    return max(1, fitting // micro_batch * micro_batch if fitting > micro_batch else fitting)


def _peak_bytes(evaluate: Callable[[], object], device: str | torch.device) -> int:
    if torch.device(device).type != "cuda":
        return 0
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    evaluate()
    return torch.cuda.max_memory_allocated(device) - before


def batches_with_backoff(
    make: Callable[[slice], Tensor], num_samples: int, batch_size: int
) -> Generator[Tensor]:
    """Yield ``make(part)`` for consecutive parts of range(num_samples), smaller ones where memory runs out.

    Args:
        make: must give each image the same pixels in every part.
        num_samples: how many there are.
        batch_size: size of the parts to begin with.

    Raises:
        torch.OutOfMemoryError, MemoryError: not even one image fits.

    >>> def make(part):
    ...     if part.stop - part.start > 2:
    ...         raise MemoryError
    ...     return torch.arange(part.start, part.stop)
    >>> [batch.tolist() for batch in batches_with_backoff(make, 5, 4)]
    [[0, 1], [2, 3], [4]]
    """
    start = 0
    while start < num_samples:
        part = slice(start, min(start + batch_size, num_samples))
        try:
            batch = make(part)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if batch_size == 1:
                error.add_note("Not even one image fits: take a smaller micro_batch, or another device")
                raise
            batch = None
        if batch is None:  # outside the except block, whose traceback holds on to the tensors
            batch_size = (part.stop - part.start + 1) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        yield batch
        start = part.stop


def _is_out_of_memory(error: Exception) -> bool:
    # the CPU's allocator has no exception of its own
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
