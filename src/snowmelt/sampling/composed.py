"""What the loop calls: the network in micro-batches, with guidance and threshold around it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from snowmelt.denoisers import Denoiser, keep_in_range
from snowmelt.plans import Plan
from snowmelt.sampling.microbatch import MicroBatches

if TYPE_CHECKING:
    from snowmelt.sampling.sampler import DiffusionSampler

__all__ = ["composed"]


def composed(
    sampler: DiffusionSampler, plan: Plan, guidance_scale: float = 0.0, *, padded: bool = True
) -> Denoiser:
    """Return the whole denoiser of a sampler, with the weights that its model has when it is called.

    Args:
        sampler: gives model, guidance, threshold, micro-batches and precision.
        plan: what the denoiser will be run with.
        guidance_scale: as for `DiffusionSampler.sample`.
        padded: as for `DiffusionSampler.run`.
    """
    batched = partial(MicroBatches, size=sampler.micro_batch, padded=padded, precision=sampler.precision)
    denoiser: Denoiser = batched(sampler.model)
    if sampler.guidance.guides(guidance_scale):
        null_class = sampler.model.null_class
        denoiser = sampler.guidance.wrap(
            denoiser, guidance_scale, null_class=null_class, plan=plan, batched=batched
        )
    return keep_in_range(denoiser, sampler.threshold)
