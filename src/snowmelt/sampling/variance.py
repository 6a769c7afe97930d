"""What a plan does with a variance that a network has learned: nothing, and it says so."""

from __future__ import annotations

import warnings

from snowmelt.models import DiffusionModel
from snowmelt.plans import Plan

__all__ = ["warn_of_fixed_variance"]


def warn_of_fixed_variance(model: DiffusionModel, plan: Plan) -> None:
    """Warn if a plan draws noise for a network that would say how much: its table has one number a row."""
    if plan.stochastic and getattr(model, "learned_variance", False):
        warnings.warn(
            f"the plan {plan.name} adds the same noise to all pixels: what the network has learned of the "
            "variance is left out. DDPMModel.sample uses it, and deterministic methods need none",
            stacklevel=3,
        )
