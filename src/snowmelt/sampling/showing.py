"""A sampler in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snowmelt.core import Parameterization
from snowmelt.notebook import html_facts

if TYPE_CHECKING:
    from snowmelt.sampling.sampler import DiffusionSampler

__all__ = ["sampler_html"]


def sampler_html(sampler: DiffusionSampler) -> str:
    """Return what a sampler samples with, and its plan."""
    model = sampler.model
    predicts = getattr(model, "parameterization", None)  # a denoiser of your own has none
    weights = sum(weight.numel() for weight in sampler.networks().parameters())
    facts = {
        "model": f"{type(model).__name__}, {weights:,} weights",
        "predicts": predicts.name if isinstance(predicts, Parameterization) else None,
        "schedule": model.schedule,
        "image (C, H, W)": model.image_shape,
        "classes": model.num_classes or "none",
        "averaged weights": "yes" if sampler.ema is not None else "none",
        "method": sampler.method,
        "guidance": sampler.guidance.name,
        "threshold": sampler.threshold,
        "device": sampler.device,
        "precision": sampler.precision,
    }
    return html_facts(type(sampler).__name__, facts) + sampler.plan._repr_html_()
