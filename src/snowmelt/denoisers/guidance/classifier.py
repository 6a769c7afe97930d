"""Classifier guidance (Dhariwal and Nichol 2021, https://arxiv.org/abs/2105.05233).

By Bayes' rule grad log p(x_t | y) = grad log p(x_t) + grad log p(y | x_t), and by Tweedie's formula the same
in terms of images is

    D_y = D + (sigma^2 / alpha) grad log p(y | x_t).

So an unconditional denoiser and any differentiable classifier of noisy images make a conditional denoiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from snowmelt.core import Level
from snowmelt.denoisers.denoiser import Answer, Answering, Denoiser, ask
from snowmelt.denoisers.guidance.guidance import Batched, Guidance, PlanTable, Strength, fixed

__all__ = [
    "Classifier",
    "ClassifierGuidance",
    "GuidedByClassifier",
    "LogProbabilityGradient",
    "ScriptedClassifier",
]

Classifier = Callable[[Tensor, Level[float]], Tensor]


class LogProbabilityGradient:
    """The gradient of log p(y | x_t) with respect to x_t; it is called as a denoiser is.

    Args:
        classifier: (x_t, level) -> logits or log probabilities, (B, K), each row of its own image alone.

    >>> brightness = lambda x_t, level: torch.stack([0 * x_t.sum((1, 2, 3)), x_t.sum((1, 2, 3))], dim=1)
    >>> gradient = LogProbabilityGradient(brightness)
    >>> gradient(torch.zeros(1, 1, 1, 1), None, torch.tensor([1])).item()  # of log sigmoid(x), at 0
    0.5
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        if class_labels is None:
            raise ValueError("guidance needs class_labels: without them there is nothing to guide towards")
        # Samplers switch autograd off
        with torch.inference_mode(False), torch.enable_grad():
            x = x_t.detach().clone().requires_grad_()
            log_p = self.classifier(x, level).log_softmax(dim=1)
            chosen = log_p.gather(1, class_labels.view(-1, 1).clone())
            (gradient,) = torch.autograd.grad(chosen.sum(), x)
        return gradient


class GuidedByClassifier(Answering):
    """A denoiser that follows a classifier: D + scale * (sigma^2 / alpha) grad log p(y | x_t).

    At pure noise (alpha = 0) no classifier sees an image, and nothing is added.

    Args:
        denoiser: any.
        gradient: of log p(y | x_t), such as `LogProbabilityGradient`.
        scale: 1 is Bayes' rule, 0 the denoiser alone; a number, or a function of the level.
        base_class: the label that the denoiser is told for all images; None tells it none.
        conditional: tell the denoiser the labels themselves, and no base class.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        gradient: Denoiser,
        scale: float | Strength,
        base_class: int | None = None,
        *,
        conditional: bool = False,
    ) -> None:
        self.denoiser = denoiser
        self.gradient = gradient
        self.scale = fixed(scale)
        self.base_class = base_class
        self.conditional = conditional

    def answer(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Answer:
        """Return the guided image, and the variance of the denoiser."""
        if class_labels is None:
            raise ValueError("guidance needs class_labels: without them there is nothing to guide towards")
        x0, variance = ask(self.denoiser, x_t, level, self._base(class_labels))
        weight = self.scale(level) * level.sigma**2
        if weight == 0 or level.alpha == 0:
            return Answer(x0, variance)
        return Answer(x0 + weight / level.alpha * self.gradient(x_t, level, class_labels).to(x0), variance)

    def _base(self, class_labels: Tensor) -> Tensor | None:
        if self.conditional:
            return class_labels
        return None if self.base_class is None else torch.full_like(class_labels, self.base_class)


@dataclass(frozen=True, kw_only=True)
class ClassifierGuidance(Guidance):
    """Classifier guidance of an unconditional model, or of a conditional one through its null class.

    Scale 1 is Bayes' rule, above it exaggerates. There is one prediction and no bad one, so nothing to
    rescale by and nothing to project.

    Args:
        classifier: (x_t, level) -> logits, (B, K), differentiable; trained on noisy images. A module is moved
            to the sampler's device with the model.
        conditional: start from the conditional denoiser, not the unconditional one. Where labels have been
            taken into account already, Bayes' rule holds no longer, but quality may gain.
        interval: as for `Guidance`, and so are `interval_in` and `schedule`; outside it the classifier does
            not run, and what is left is the denoiser that it starts from.
    """

    name: ClassVar[str] = "classifier"

    classifier: Classifier
    conditional: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.classifier):
            raise TypeError(
                f"classifier must be a function (x_t, level) -> logits, got {type(self.classifier).__name__}"
            )

    @property
    def networks(self) -> tuple[object, ...]:
        """The classifier."""
        return (self.classifier,)

    def guides(self, scale: float) -> bool:
        """Return whether the scale is not 0, which is off."""
        return scale != 0

    def evaluations(self, scale: float, plan: PlanTable) -> int:
        """Return one evaluation a row: the classifier is another network."""
        return len(plan.rows)

    def wrap(
        self,
        denoiser: Denoiser,
        scale: float,
        *,
        null_class: int | None,
        plan: PlanTable,
        batched: Batched = lambda denoiser: denoiser,
    ) -> Denoiser:
        """Return `denoiser` under classifier guidance; arguments as for `Guidance.wrap`."""
        return GuidedByClassifier(
            denoiser,
            batched(LogProbabilityGradient(self.classifier)),
            lambda level: scale * self.share(level),
            null_class,
            conditional=self.conditional,
        )


class ScriptedClassifier(nn.Module):
    """A TorchScript module (x_t, t) -> logits, with t (B,) in [0, 1], as guidance calls a classifier."""

    def __init__(self, module: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.module = module

    def forward(self, x_t: Tensor, level: Level[float]) -> Tensor:
        """Return logits (B, K)."""
        return self.module(x_t, x_t.new_full((len(x_t),), level.t))
