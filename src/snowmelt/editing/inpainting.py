"""Paint the missing part of an image: RePaint (Lugmayr et al. 2022, https://arxiv.org/abs/2201.09865).

At the known pixels the denoised image is the image itself. A denoiser that says so makes any plan carry these
pixels along with exactly their law, q(x_t | image), and the network sees them beside what it has painted so
far. One descent is not enough for the two to agree. So each stretch of it is repeated, with fresh
noise in between (the paper's resampling). That is a plan with lifts, as Restart's is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snowmelt.core import Level, NoiseSchedule
from snowmelt.denoisers import Answer, Answering, Denoiser, ask
from snowmelt.editing.checks import Spoken, check_images, choose_method, last, seeded_noise
from snowmelt.plans import Method, Plan
from snowmelt.plans.joining import join
from snowmelt.sampling import DiffusionSampler
from snowmelt.sampling.request import check_count

__all__ = ["Known", "inpaint"]


class Known(Answering):
    """A denoiser that knows some pixels of the image: there it says what they are.

    Their noise has the posterior's variance, whatever a network has learned of it.

    Args:
        denoiser: any.
        images: (B, C, H, W).
        mask: bool, broadcastable to the images; True is known.

    >>> blind = lambda x_t, level, class_labels: torch.zeros_like(x_t)
    >>> seeing = Known(blind, torch.ones(1, 1, 1, 2), torch.tensor([True, False]))
    >>> seeing(torch.randn(1, 1, 1, 2), None)
    tensor([[[[1., 0.]]]])
    """

    def __init__(self, denoiser: Denoiser, images: Tensor, mask: Tensor) -> None:
        self.denoiser = denoiser
        self.images = images
        self.mask = mask

    def answer(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Answer:
        """Return the image with the known pixels, and their least variance."""
        x0, variance = ask(self.denoiser, x_t, level, class_labels)
        image = torch.where(self.mask, self.images, x0)
        return Answer(image, torch.where(self.mask, -1.0, variance) if variance is not None else None)


def inpaint(
    sampler: DiffusionSampler,
    images: Tensor,
    mask: Tensor,
    *,
    resamplings: int = 10,
    jump: int = 5,
    class_labels: Tensor | Sequence[int] | None = None,
    guidance_scale: float = 0.0,
    use_ema: bool = True,
    seeds: Sequence[int] | None = None,
    method: Spoken = None,
    **keywords: Any,
) -> Tensor:
    """Return the images with the pixels outside of `mask` painted anew.

    Args:
        sampler: its model, guidance, threshold and device are used, and its method.
        images: (B, C, H, W) in [-1, 1]; unknown pixels may have any value in there.
        mask: bool, broadcastable to the images, such as (H, W) or (B, 1, H, W); True is known and comes out
            as it went in.
        resamplings: how often each stretch of the way down is passed, >= 1; the network is called about
            steps * resamplings times.
        jump: time steps of such a stretch, >= 1.
        class_labels: (B,), what the images show.
        guidance_scale: as in `DiffusionSampler.sample`, and so are `use_ema` and `seeds`.
        method: how to sample, as for `DiffusionSampler`; None takes the sampler's own method.
        keywords: in place of it: ``solver``, ``steps``, ``grid``, ``preset``, and options.

    Returns:
        (B, C, H, W), float32 on the sampler's device, in [-1, 1]. Where nothing is known, that is plain
        sampling with the same seeds.

    Raises:
        TypeError, ValueError: an argument makes no sense; the message says what to do.

    >>> from snowmelt import DiffusionSampler, create_ddpm
    >>> sampler = DiffusionSampler(create_ddpm(image_size=8, in_channels=1, model_channels=32), steps=2)
    >>> left_half = torch.arange(8) < 4
    >>> painted = inpaint(sampler, torch.ones(1, 1, 8, 8), left_half, steps=4, jump=2, resamplings=2)
    >>> bool((painted[..., left_half] == 1).all())
    True
    """
    images = check_images(sampler, images)
    mask = _check_mask(mask, images)
    jump, resamplings = check_count("jump", jump), check_count("resamplings", resamplings)
    noise = seeded_noise(sampler, seeds, len(images))
    chosen = choose_method(sampler, method, keywords)
    if not mask.any():  # nothing to agree with
        resamplings = 1

    plan = _resampled(chosen, sampler.model.schedule, resamplings, jump)
    start, z = plan.rows[0].level, noise()
    x = torch.where(mask, start.alpha * images + start.sigma * z, plan.prior_std * z)
    states = sampler.run(
        plan,
        x,
        class_labels,
        guidance_scale,
        use_ema,
        noise=noise,
        wrap=lambda denoiser: Known(denoiser, images, mask),
    )
    # A plan's weights sum to 1 up to rounding only
    return torch.where(mask, images, last(sampler, states))


def _resampled(method: Method, schedule: NoiseSchedule, resamplings: int, jump: int) -> Plan:
    """Return the plan that passes each `jump` steps `resamplings` times."""
    if resamplings == 1:
        return method.plan(schedule)
    times = method.times(schedule)
    stretches = [method.plan(schedule, times[i : i + jump + 1]) for i in range(0, len(times) - 1, jump)]
    return join([stretch for stretch in stretches for _ in range(resamplings)])


def _check_mask(mask: Tensor, images: Tensor) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        given = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a bool tensor, True where the pixel is known, got {given}")
    try:
        return mask.to(images.device).expand_as(images)
    except RuntimeError:
        raise ValueError(
            f"mask must be broadcastable to the images {tuple(images.shape)}, got {tuple(mask.shape)}"
        ) from None
