"""The identity of images: all that decides their bits."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from snowmelt._version import __version__
from snowmelt.digest import content_digest
from snowmelt.sampling.request import Request
from snowmelt.sampling.variance import uses_variance

if TYPE_CHECKING:
    from snowmelt.sampling.sampler import DiffusionSampler

__all__ = ["identity"]

LISTED_SEEDS = 16  # more of them are stated by their digest
LISTED_LABELS = 1000  # runs of equal labels


def identity(sampler: DiffusionSampler, request: Request) -> dict[str, Any]:
    """Return what `DiffusionSampler.identity` returns."""
    parts = (getattr(sampler.model, name, None) for name in ("network", "decoder"))
    networks = (*parts, sampler.model, *sampler.guidance.networks)
    if any(not isinstance(network, nn.Module | None) for network in networks):
        raise ValueError(
            "images are known by the weights of the networks, and one here is a plain function: make it a "
            "torch.nn.Module"
        )
    labels, seeds = request.class_labels, request.seeds
    runs = [f"{label} x {len(list(run))}" for label, run in groupby(labels or ())]
    short = f"{len(seeds)} seeds, {content_digest(seeds)[:16]}"
    with sampler.averaged(request.use_ema):
        weights = content_digest(sampler.networks().state_dict())
    # Said only where it is true, so that other images keep the identity that they had
    learned = {"variance": "learned"} if uses_variance(sampler.model, sampler.plan) else {}
    return {
        "weights": weights,
        "averaged": request.use_ema and sampler.ema is not None,
        "plan": json.loads(sampler.plan.to_json()),
        **learned,
        "guidance": sampler.guidance.describe(),
        "guidance_scale": request.guidance_scale,
        "threshold": sampler.threshold,
        "num_samples": len(request),
        "class_labels": runs if len(runs) <= LISTED_LABELS else content_digest(labels),
        "seeds": list(seeds) if len(seeds) <= LISTED_SEEDS else short,
        "precision": sampler.precision,
        "micro_batch": sampler.micro_batch if request.seeded else None,
        "device": torch.device(sampler.device).type,
        "versions": {"snowmelt": __version__, "torch": torch.__version__},
    }
