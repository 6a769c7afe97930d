"""Classifier-free guidance (Ho and Salimans 2022, https://arxiv.org/abs/2207.12598)."""

from __future__ import annotations

import torch
from torch import Tensor

from snowmelt.core import Level
from snowmelt.denoisers.denoiser import Denoiser

__all__ = ["ClassifierFreeGuidance"]


class ClassifierFreeGuidance:
    """A denoiser that exaggerates what the class label changes: D_u + scale * (D_c - D_u).

    Both branches run in one call of the denoiser on a batch of twice the size. (The paper's eq. 6 in terms
    of its w is scale = 1 + w; it guides eps, which for one x_t is the same line as guiding x0.)

    Args:
        denoiser: knows the classes and the null class.
        scale: 1 is the conditional denoiser, 0 the unconditional one, above 1 exaggerates.
        null_class: the label that stands for no condition.

    >>> denoiser = lambda x_t, level, class_labels: class_labels.view(-1, 1, 1, 1).float()
    >>> guided = ClassifierFreeGuidance(denoiser, scale=3.0, null_class=2)
    >>> guided(torch.zeros(2, 1, 1, 1), None, torch.tensor([0, 1])).flatten()
    tensor([-4., -1.])
    """

    def __init__(self, denoiser: Denoiser, scale: float, null_class: int) -> None:
        self.denoiser = denoiser
        self.scale = scale
        self.null_class = null_class

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        if class_labels is None:
            raise ValueError("guidance needs class_labels: without them there is nothing to guide towards")
        both = torch.cat([class_labels, torch.full_like(class_labels, self.null_class)])
        conditional, unconditional = self.denoiser(torch.cat([x_t, x_t]), level, both).chunk(2)
        return torch.lerp(unconditional, conditional, self.scale)
