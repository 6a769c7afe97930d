"""How long a job will take and how much memory it needs, from a trial of two evaluations."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from math import ceil, prod
from typing import NamedTuple

import torch

from snowmelt.denoisers.guidance import network_evaluations
from snowmelt.device import synchronize
from snowmelt.plans import Plan
from snowmelt.sampling import DiffusionSampler, Request
from snowmelt.sampling.memory import state_bytes, used_bytes

__all__ = ["Estimate", "estimate"]


class Estimate(NamedTuple):
    """What a job will take.

    Attributes:
        images: still to be made, by all processes, and so are `batches`.
        batches: of `batch_size` images at most.
        batch_size: images that are made together.
        evaluations: of a network for one image. Guidance may need more than the plan has.
        seconds: until all images are made if nothing else runs, without the writing of files.
        bytes: of memory at the peak, in each process.
    """

    images: int
    batches: int
    batch_size: int
    evaluations: int
    seconds: float
    bytes: int


def estimate(
    sampler: DiffusionSampler, request: Request, sizes: Sequence[int], batch_size: int, processes: int = 1
) -> Estimate:
    """Try two evaluations and return what the rest of a job will take.

    Args:
        sampler: makes the images.
        request: all images of the job.
        sizes: images in each shard that is still to be made.
        batch_size: images that are made together.
        processes: how many share the work.
    """
    plan, shape = sampler.plan, sampler.model.image_shape
    seconds = _seconds_of_an_evaluation(sampler, request)  # before the memory is looked at
    evaluations = network_evaluations(plan, sampler.guidance, request.guidance_scale)
    calls = sum(ceil(size / sampler.micro_batch) for size in sizes)
    held = batch_size * state_bytes(plan, shape) + max(sizes, default=0) * prod(shape)
    return Estimate(
        images=sum(sizes),
        batches=sum(ceil(size / batch_size) for size in sizes),
        batch_size=batch_size,
        evaluations=evaluations,
        seconds=calls * evaluations * seconds / processes,
        bytes=used_bytes(sampler.device) + held,
    )


def _seconds_of_an_evaluation(sampler: DiffusionSampler, request: Request) -> float:
    """Return the seconds that one call of a network on a micro-batch takes, from two rows of the plan."""
    plan, count = sampler.plan, sampler.micro_batch
    x = torch.zeros(count, *sampler.model.image_shape, device=sampler.device)
    labels = [request.class_labels[0]] * count if request.class_labels is not None else None
    moments = [time.perf_counter()]
    with closing(sampler.run(plan, x, labels, request.guidance_scale, request.use_ema)) as states:
        for _ in islice(states, 2):
            synchronize(sampler.device)
            moments.append(time.perf_counter())
    row = len(moments) - 2  # the last one: the first call is slow everywhere
    timed = Plan((plan.rows[row],), plan.levels[row + 1], plan.quantity)
    calls = network_evaluations(timed, sampler.guidance, request.guidance_scale)
    return (moments[-1] - moments[-2]) / calls
