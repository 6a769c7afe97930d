"""What a plan is tuned on: noises, and the images that a fine plan makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snowmelt.core import NoiseSchedule
from snowmelt.denoisers import Denoiser
from snowmelt.plans import Plan, integrate

__all__ = ["Lesson", "distance"]


@dataclass(frozen=True, eq=False)
class Lesson:
    """Noises and where a plan should take them.

    Attributes:
        denoiser: with guidance and threshold around it, as it will be used.
        schedule: of the denoiser.
        noise: (N, ...), the states at t = 1.
        class_labels: (N,) integers, or None.
        images: (N, ...), what the teacher makes of the noises, before any decoder.
        features: images (N, ...) -> (N, ...), what of the images is compared; None compares the images.
        seen: (N, ...), the features of `images`; `through` finds them.

    >>> import torch
    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.plans import make_plan
    >>> gray = lambda x_t, level, class_labels=None: torch.zeros_like(x_t)
    >>> noise = torch.randn(4, 1, 2, 2)
    >>> lesson = Lesson(gray, RectifiedFlow(), noise, None, torch.zeros_like(noise))
    >>> lesson.distance(make_plan(RectifiedFlow(), "ddim", steps=2))
    0.0
    """

    denoiser: Denoiser
    schedule: NoiseSchedule
    noise: Tensor
    class_labels: Tensor | None
    images: Tensor
    features: Callable[[Tensor], Tensor] | None = None
    seen: Tensor | None = None

    def __len__(self) -> int:
        return len(self.noise)

    def __getitem__(self, part: slice) -> Lesson:
        labels = None if self.class_labels is None else self.class_labels[part]
        seen = None if self.seen is None else self.seen[part]
        return replace(self, noise=self.noise[part], class_labels=labels, images=self.images[part], seen=seen)

    def through(self, features: Callable[[Tensor], Tensor] | None, size: int) -> Lesson:
        """Return the same noises, compared through `features` of the images, found `size` at a time.

        None compares the images.
        """
        seen = torch.cat([features(part.images) for part in self.parts(size)]) if features else None
        return replace(self, features=features, seen=seen)

    @property
    def compared(self) -> int:
        """How many numbers of each image are compared."""
        return (self.images if self.seen is None else self.seen)[0].numel()

    def parts(self, size: int) -> Iterator[Lesson]:
        """Yield the lesson in pieces of at most `size` noises."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def run(self, plan: Plan) -> Tensor:
        """Return what `plan` makes of the noises, (N, ...)."""
        return integrate(plan, self.denoiser, self.noise, self.class_labels)

    def residual(self, images: Tensor) -> Tensor:
        """Return how images, or their features, differ from the teacher's, (N, D)."""
        if self.features is None or self.seen is None:
            return (images - self.images).flatten(1)
        return (self.features(images) - self.seen).flatten(1)

    def distance(self, plan: Plan) -> float:
        """Return the distance of the plan's images from the teacher's: the root mean square of `residual`."""
        return self.residual(self.run(plan)).square().mean().sqrt().item()


def distance(images: Tensor, others: Tensor) -> float:
    """Return the root of the mean squared difference of two sets of images, in units of their values.

    >>> import torch
    >>> distance(torch.zeros(2, 3), torch.full((2, 3), 0.5))
    0.5
    """
    return (images - others).square().mean().sqrt().item()
