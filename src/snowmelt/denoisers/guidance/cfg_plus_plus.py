"""CFG++: guidance that stays on the data (Chung et al. 2024, https://arxiv.org/abs/2406.08070).

A deterministic step from level s to level t goes to the guided image and keeps the unconditional noise:

    x_t = alpha_t (D_u + scale (D_c - D_u)) + sigma_t eps_u,    eps_u = (x_s - alpha_s D_u) / sigma_s.

Classifier-free guidance of strength w would keep the guided noise as well. In D_c - D_u both are linear: a
step that weighs the image by c, which for DDIM is c = alpha_t - alpha_s sigma_t / sigma_s, adds
c w (D_c - D_u), and CFG++ adds alpha_t scale (D_c - D_u). So CFG++ is classifier-free guidance of strength

    w = scale alpha_t / c    ( = scale / (1 - e^{-h}),  h = lam_t - lam_s,  for DDIM )

at every step, which the plan's row tells. It falls to `scale` where the step leaves pure noise and where it
reaches the image, and is large for short steps between. The same line holds where part of the noise is fresh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from snowmelt.core import Level
from snowmelt.denoisers.denoiser import Denoiser
from snowmelt.denoisers.guidance.cfg import ClassifierFreeGuidance, known_null_class
from snowmelt.denoisers.guidance.contrast import doubled
from snowmelt.denoisers.guidance.guidance import Batched, Guidance, PlanTable, Strength

__all__ = ["CFGPlusPlus", "image_gains"]


@dataclass(frozen=True, kw_only=True)
class CFGPlusPlus(Guidance):
    """CFG++: the scale, in (0, 1] in the paper, says where between D_u and D_c the image of each step lies.

    Scale 1 is not the conditional denoiser, for the noise is the unconditional one. It has a meaning for
    plans of single first-order steps towards the image: ddim, euler, ddpm, euler_ancestral, and restarts of
    them. It is neither rescaled nor projected: both would see the strength w, which belongs to the step and
    not to the image.

    Args:
        interval: as for `Guidance`; outside it the conditional denoiser runs alone.
        schedule: as for `Guidance`; a share f of CFG++ is the strength 1 + (w - 1) f.

    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.plans import make_plan
    >>> plan = make_plan(RectifiedFlow(), "ddim", steps=4)
    >>> strength = CFGPlusPlus().strength(0.6, plan)
    >>> [round(strength(row.level), 3) for row in plan.rows]
    [0.6, 0.9, 0.9, 0.6]
    """

    name: ClassVar[str] = "cfg++"

    def guides(self, scale: float) -> bool:
        """Return whether the scale is not 0, which is off."""
        return scale != 0

    def strength(self, scale: float, plan: PlanTable) -> Strength:
        """Return the scale of the equivalent classifier-free guidance at each level of the plan."""
        gains = image_gains(plan)

        def at(level: Level[float]) -> float:
            if level not in gains:
                raise ValueError(f"cfg++ knows the levels of its plan only, and {level} is none of them")
            return 1 + (scale * gains[level] - 1) * self.share(level)

        return at

    def evaluations(self, scale: float, plan: PlanTable) -> int:
        """Return two evaluations a row, and one where the equivalent scale is 1."""
        return doubled(self.strength(scale, plan), plan)

    def wrap(
        self,
        denoiser: Denoiser,
        scale: float,
        *,
        null_class: int | None,
        plan: PlanTable,
        batched: Batched = lambda denoiser: denoiser,
    ) -> Denoiser:
        """Return `denoiser` under CFG++; arguments as for `Guidance.wrap`."""
        return ClassifierFreeGuidance(
            denoiser, self.strength(scale, plan), known_null_class("cfg++", null_class)
        )


def image_gains(plan: PlanTable) -> dict[Level[float], float]:
    """Return alpha_t / c at each level: how much larger the image stands in x_t than in the row's step.

    Raises:
        ValueError: a row is not a first-order step towards the image, or one level has two different steps.
    """
    if plan.history > 1 or plan.corrects or any(row.advance.x for row in plan.rows):
        raise ValueError(
            "cfg++ keeps the unconditional noise of one evaluation, but this plan combines several "
            "evaluations in a step: take ddim, euler, ddpm or euler_ancestral, or tame "
            "guidance by apg, rescale or an interval"
        )
    gains: dict[Level[float], float] = {}
    for row, reached in zip(plan.rows, plan.levels[1:], strict=True):
        level, weight = row.level, row.advance.m[0]
        if plan.quantity != "x0":  # eps = (y - alpha x0) / sigma, v = (alpha y - x0) / sigma
            weight *= -(level.alpha if plan.quantity == "eps" else 1.0) / level.sigma
        if not (weight > 0 and reached.alpha > 0):
            raise ValueError(
                f"cfg++ guides towards the image, and this plan's step at t = {level.t:g} leads away from "
                "it: take cfg for a plan that runs towards noise"
            )
        gain = reached.alpha / weight
        if not math.isclose(gains.setdefault(level, gain), gain, rel_tol=1e-6):
            raise ValueError(
                f"cfg++ needs one step from each level, and this plan has two different ones from "
                f"t = {level.t:g}: take cfg there"
            )
    return gains
