"""SDEdit (Meng et al. 2022, https://arxiv.org/abs/2108.01073): half noise, half image, then sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from snowmelt.editing.checks import Spoken, check_images, check_strength, choose_method, last, seeded_noise
from snowmelt.sampling import DiffusionSampler

__all__ = ["image_to_image"]


def image_to_image(
    sampler: DiffusionSampler,
    images: Tensor,
    *,
    strength: float,
    class_labels: Tensor | Sequence[int] | None = None,
    guidance_scale: float = 0.0,
    use_ema: bool = True,
    seeds: Sequence[int] | None = None,
    method: Spoken = None,
    **keywords: Any,
) -> Tensor:
    """Return images that follow the given ones as far as `strength` leaves something of them.

    The images are noised to time t = strength, x_t = alpha_t image + sigma_t noise, and sampled from there
    on what is left of the time grid.

    Args:
        sampler: its model, guidance, threshold and device are used, and its method.
        images: (B, C, H, W) in [-1, 1].
        strength: 0 returns the images, 1 ignores them: it is plain sampling with the same seeds. A model on
            T trained steps takes 0, or 1/T and more.
        class_labels: (B,), the classes wanted.
        guidance_scale: as in `DiffusionSampler.sample`, and so are `use_ema` and `seeds`.
        method: how to sample, as for `DiffusionSampler`; None takes the sampler's own method.
        keywords: in place of it: ``solver``, ``steps``, ``grid``, ``preset``, and options.

    Returns:
        (B, C, H, W), float32 on the sampler's device, in [-1, 1].

    Raises:
        TypeError, ValueError: an argument makes no sense; the message says what to do.

    >>> import torch
    >>> from snowmelt import DiffusionSampler, create_ddpm
    >>> sampler = DiffusionSampler(create_ddpm(image_size=8, in_channels=1, model_channels=32), steps=2)
    >>> images = torch.rand(2, 1, 8, 8)
    >>> torch.equal(image_to_image(sampler, images, strength=0), images)
    True
    >>> image_to_image(sampler, images, strength=0.6, seeds=[1, 2], steps=5).shape
    torch.Size([2, 1, 8, 8])
    """
    images = check_images(sampler, images)
    strength = check_strength(strength, sampler)
    noise = seeded_noise(sampler, seeds, len(images))
    chosen = choose_method(sampler, method, keywords)
    schedule = sampler.model.schedule
    if strength == 0:
        return images.clone()
    if strength == 1:
        plan = chosen.plan(schedule)
        x = plan.prior_std * noise()
    else:
        plan = chosen.plan(schedule, chosen.times_from(schedule, strength))
        start = schedule(strength)
        x = start.alpha * images + start.sigma * noise()
    return last(sampler, sampler.run(plan, x, class_labels, guidance_scale, use_ema, noise=noise))
