"""Where a variance that a network has learned enters the images, and a word where it does not."""

from __future__ import annotations

import warnings

from snowmelt.models import DiffusionModel
from snowmelt.plans import Plan
from snowmelt.plans.ancestral import widths

__all__ = ["uses_variance", "warn_of_fixed_variance"]


def uses_variance(model: DiffusionModel, plan: Plan) -> bool:
    """Return whether what the network says of the variance changes the images of a plan."""
    return getattr(model, "learned_variance", False) and max(widths(plan)) > 1.0


def warn_of_fixed_variance(model: DiffusionModel, plan: Plan) -> None:
    """Warn if a plan draws noise for a network that would say how much, and no step is ancestral."""
    if plan.stochastic and getattr(model, "learned_variance", False) and not uses_variance(model, plan):
        warnings.warn(
            f"the plan {plan.name} adds the same noise to all pixels: what the network has learned of the "
            "variance of ancestral steps is left out. Take ddpm, which uses it, or a deterministic method, "
            "which needs none",
            stacklevel=3,
        )
