"""Classifier-free guidance (Ho and Salimans 2022, https://arxiv.org/abs/2207.12598)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from snowmelt.core import Level
from snowmelt.denoisers.denoiser import Answer, Answering, Denoiser, ask
from snowmelt.denoisers.guidance.contrast import Contrast, Mix, line
from snowmelt.denoisers.guidance.guidance import Batched, PlanTable, Strength, fixed

__all__ = ["CFG", "ClassifierFreeGuidance"]


class ClassifierFreeGuidance(Answering):
    """A denoiser that exaggerates what the class label changes: D_u + scale * (D_c - D_u).

    Both branches run in one call of the denoiser on a batch of twice the size; at scale 1 the conditional one
    runs alone. (The paper's eq. 6 in terms of its w is scale = 1 + w; it guides eps, which for one x_t is the
    same line as guiding x0.)

    Args:
        denoiser: knows the classes and the null class.
        scale: 1 is the conditional denoiser, 0 the unconditional one, above 1 exaggerates; a number, or a
            function of the level.
        null_class: the label that stands for no condition.
        mix: (conditional, unconditional, scale) -> guided.

    >>> denoiser = lambda x_t, level, class_labels: class_labels.view(-1, 1, 1, 1).float()
    >>> guided = ClassifierFreeGuidance(denoiser, scale=3.0, null_class=2)
    >>> guided(torch.zeros(2, 1, 1, 1), None, torch.tensor([0, 1])).flatten()
    tensor([-4., -1.])
    """

    def __init__(self, denoiser: Denoiser, scale: float | Strength, null_class: int, mix: Mix = line) -> None:
        self.denoiser = denoiser
        self.scale = fixed(scale)
        self.null_class = null_class
        self.mix = mix

    def answer(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Answer:
        """Return the guided image, and the variance of the conditional branch."""
        if class_labels is None:
            raise ValueError("guidance needs class_labels: without them there is nothing to guide towards")
        scale = self.scale(level)
        if scale == 1:
            return ask(self.denoiser, x_t, level, class_labels)
        both = torch.cat([class_labels, torch.full_like(class_labels, self.null_class)])
        x0, variance = ask(self.denoiser, torch.cat([x_t, x_t]), level, both)
        conditional, unconditional = x0.chunk(2)
        guided = self.mix(conditional, unconditional, scale)
        return Answer(guided, variance.chunk(2)[0] if variance is not None else None)


@dataclass(frozen=True, kw_only=True)
class CFG(Contrast):
    """Classifier-free guidance: the class label's prediction against the null class's.

    Args:
        interval: as for `Guidance`, and so are `interval_in` and `schedule`; outside it the conditional
            denoiser runs alone.
        rescale: as for `Contrast`.

    >>> from snowmelt import DiffusionSampler, create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32, num_classes=3)
    >>> guidance = CFG(interval=(0.3, 3.0), rescale=0.7)
    >>> sampler = DiffusionSampler(model, solver="ddim", steps=4, guidance=guidance)
    >>> sampler.sample(num_samples=2, class_labels=[0, 1], guidance_scale=4.0).shape
    torch.Size([2, 1, 8, 8])
    """

    name: ClassVar[str] = "cfg"

    def wrap(
        self,
        denoiser: Denoiser,
        scale: float,
        *,
        null_class: int | None,
        plan: PlanTable,
        batched: Batched = lambda denoiser: denoiser,
    ) -> Denoiser:
        """Return `denoiser` under classifier-free guidance; arguments as for `Guidance.wrap`."""
        null_class = known_null_class("classifier-free guidance", null_class)
        return ClassifierFreeGuidance(denoiser, self.strength(scale), null_class, self.mixed_by(line))


def known_null_class(method: str, null_class: int | None) -> int:
    """Return the null class, which `method` cannot do without."""
    if null_class is None:
        raise ValueError(
            f"{method} needs a model with classes and a null class; this one has none: leave guidance_scale "
            "at 0.0, or take autoguidance or a classifier"
        )
    return null_class
