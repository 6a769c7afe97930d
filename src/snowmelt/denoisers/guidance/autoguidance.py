"""Autoguidance: a bad version of itself (Karras et al. 2024, https://arxiv.org/abs/2406.02507)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from snowmelt.core import Level
from snowmelt.denoisers.denoiser import Answer, Answering, Denoiser, ask
from snowmelt.denoisers.guidance.apg import check_projection, projecting
from snowmelt.denoisers.guidance.contrast import Contrast, Mix, line
from snowmelt.denoisers.guidance.guidance import Batched, PlanTable, Strength, fixed

__all__ = ["AutoGuidance", "GuidedByWeaker"]


class GuidedByWeaker(Answering):
    """A denoiser that exaggerates what it does better than a weaker one: D_w + scale * (D - D_w).

    Args:
        denoiser: the good one, with or without classes.
        weak: trained on the same data, but for less long or with fewer parameters; hears the same labels.
        scale: 1 is the good denoiser alone; a number, or a function of the level.
        mix: (good, weak, scale) -> guided.

    >>> import torch
    >>> good = lambda x_t, level, class_labels: x_t
    >>> weak = lambda x_t, level, class_labels: x_t - 1
    >>> GuidedByWeaker(good, weak, scale=3.0)(torch.zeros(1, 1), None)
    tensor([[2.]])
    """

    def __init__(self, denoiser: Denoiser, weak: Denoiser, scale: float | Strength, mix: Mix = line) -> None:
        self.denoiser = denoiser
        self.weak = weak
        self.scale = fixed(scale)
        self.mix = mix

    def answer(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Answer:
        """Return the guided image, and the variance of the good denoiser."""
        good, variance = ask(self.denoiser, x_t, level, class_labels)
        scale = self.scale(level)
        x0 = good if scale == 1 else self.mix(good, self.weak(x_t, level, class_labels), scale)
        return Answer(x0, variance)


@dataclass(frozen=True, kw_only=True)
class AutoGuidance(Contrast):
    """Autoguidance: the model's prediction against that of a weaker model of the same data.

    It sharpens without pulling the images of a class together, as the contrast of classes does.

    Args:
        weak: a smaller network or an earlier checkpoint; moved to the sampler's device with the model.
        eta: as for `APG`, and so is `norm_threshold`; with their defaults nothing is projected.
        interval: as for `CFG`, and so are `interval_in`, `schedule` and `rescale`.

    >>> weak = lambda x_t, level, class_labels=None: x_t - 1
    >>> AutoGuidance(weak=weak, interval=(0.3, 3.0)).networks == (weak,)
    True
    """

    name: ClassVar[str] = "autoguidance"

    needs_labels: ClassVar[bool] = False

    weak: Denoiser
    eta: float = 1.0
    norm_threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.weak):
            raise TypeError(f"weak must be a denoiser, such as a DDPMModel, got {type(self.weak).__name__}")
        check_projection(self.eta, self.norm_threshold)

    @property
    def networks(self) -> tuple[object, ...]:
        """The weaker one."""
        return (self.weak,)

    def wrap(
        self,
        denoiser: Denoiser,
        scale: float,
        *,
        null_class: int | None,
        plan: PlanTable,
        batched: Batched = lambda denoiser: denoiser,
    ) -> Denoiser:
        """Return `denoiser` under autoguidance; arguments as for `Guidance.wrap`."""
        mix = self.mixed_by(projecting(self.eta, self.norm_threshold))
        return GuidedByWeaker(denoiser, batched(self.weak), self.strength(scale), mix)
