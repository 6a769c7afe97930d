"""Interpolation: a path through the noises of several seeds, and through classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snowmelt.core import Level
from snowmelt.denoisers import Answer, Answering, Denoiser, ask
from snowmelt.editing.blend import BlendedNoise
from snowmelt.editing.checks import last
from snowmelt.sampling import DiffusionSampler
from snowmelt.sampling.request import check_count

__all__ = ["ClassMix", "interpolate"]


class ClassMix(Answering):
    """A denoiser that stands between two classes: (1 - w) D(x_t | c) + w D(x_t | c').

    Args:
        denoiser: any that knows the classes, guided or not.
        others: (B,) the classes c'; c are the labels of the call.
        weights: (B,) w in [0, 1].

    >>> denoiser = lambda x_t, level, class_labels: class_labels.view(-1, 1, 1, 1).float()
    >>> mix = ClassMix(denoiser, torch.tensor([4, 4]), torch.tensor([0.0, 0.25]))
    >>> mix(torch.zeros(2, 1, 1, 1), None, torch.tensor([0, 0])).flatten()
    tensor([0., 1.])
    """

    def __init__(self, denoiser: Denoiser, others: Tensor, weights: Tensor) -> None:
        self.denoiser = denoiser
        self.others = others
        self.weights = weights

    def answer(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Answer:
        """Return the image between, and the variance between."""
        here = ask(self.denoiser, x_t, level, class_labels)
        there = ask(self.denoiser, x_t, level, self.others.to(x_t.device))
        weights = self.weights.to(x_t).view(-1, 1, 1, 1)
        x0 = torch.lerp(here.x0, there.x0, weights)
        if here.variance is None or there.variance is None:
            return Answer(x0)
        return Answer(x0, torch.lerp(here.variance, there.variance, weights))


def interpolate(
    sampler: DiffusionSampler,
    seeds: Sequence[int],
    num_images: int,
    *,
    class_labels: Sequence[int] | int | None = None,
    guidance_scale: float = 0.0,
    use_ema: bool = True,
    loop: bool = False,
) -> Tensor:
    """Return images evenly spread along a path through the images of `seeds`.

    The noises are interpolated on a sphere (`BlendedNoise`), the classes by mixing what the denoiser says of
    them (`ClassMix`). Where the path meets a seed, the image is the bits that `sampler.sample` makes of it.

    Args:
        sampler: its plan is run; a stochastic one, too.
        seeds: at least two, in the order of the path. One seed given twice stays where it is, which is the
            way to change the class alone.
        num_images: how many, >= 2; the first and the last are those of the first and last seed.
        class_labels: one label for all, or one a seed.
        guidance_scale: as in `DiffusionSampler.sample`, and so is `use_ema`.
        loop: go on from the last seed to the first; the first image is not repeated at the end.

    Returns:
        (num_images, C, H, W), float32 on the sampler's device, in [-1, 1].

    Raises:
        TypeError, ValueError: an argument makes no sense; the message says what to do.

    >>> from snowmelt import DiffusionSampler, create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32, num_classes=3)
    >>> sampler = DiffusionSampler(model, solver="ddim", steps=2)
    >>> images = interpolate(sampler, [5, 6, 7], 5, class_labels=[0, 0, 2])
    >>> torch.equal(images[2], sampler.sample(1, [0], seeds=[6])[0])
    True
    """
    if len(seeds) < 2:
        raise ValueError(f"a path needs at least two seeds, got {len(seeds)}; give one twice to stay there")
    if isinstance(class_labels, int):
        class_labels = [class_labels] * len(seeds)
    knots = sampler.request(len(seeds), class_labels, guidance_scale, use_ema, seeds)
    numbers, labels = knots.seeds, knots.labels
    if check_count("num_images", num_images) == 1 and not loop:
        raise ValueError("num_images must be at least 2, for both ends of the path, got 1")

    starts, ends, weights = _path(len(numbers), num_images, loop)
    noise = BlendedNoise(
        [numbers[k] for k in starts],
        [numbers[k] for k in ends],
        weights,
        sampler.model.image_shape,
        sampler.device,
    )

    def between_classes(denoiser: Denoiser) -> Denoiser:
        if labels is None or torch.equal(labels[starts], labels[ends]):
            return denoiser
        return ClassMix(denoiser, labels[ends], torch.tensor(weights))

    x = sampler.plan.prior_std * noise()
    here = None if labels is None else labels[starts]
    states = sampler.run(sampler.plan, x, here, guidance_scale, use_ema, noise=noise, wrap=between_classes)
    return last(sampler, states)


def _path(num_knots: int, num_images: int, loop: bool) -> tuple[list[int], list[int], list[float]]:
    """Return for each image the knot before it, the knot after it, and how far it is between the two."""
    legs, parts = (num_knots, num_images) if loop else (num_knots - 1, num_images - 1)
    places = [
        divmod(i * legs, parts) for i in range(num_images)
    ]  # in integers, so that knots are met exactly
    starts = [knot for knot, _ in places]
    ends = [(knot + 1) % num_knots if part else knot for knot, part in places]
    return starts, ends, [part / parts for _, part in places]
