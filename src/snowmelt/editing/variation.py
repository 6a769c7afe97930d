"""Variations of one image."""

from __future__ import annotations

from torch import Tensor

from snowmelt.editing.blend import BlendedNoise
from snowmelt.editing.checks import check_strength, last
from snowmelt.sampling import DiffusionSampler, image_seeds
from snowmelt.sampling.request import check_count

__all__ = ["variations"]


def variations(
    sampler: DiffusionSampler,
    seed: int,
    num_images: int,
    *,
    strength: float,
    class_label: int | None = None,
    guidance_scale: float = 0.0,
    use_ema: bool = True,
) -> Tensor:
    """Return images whose noise is that of `seed`, mixed with others'.

    Args:
        sampler: its plan is run; a stochastic one, too.
        seed: of the image to vary.
        num_images: how many; image i depends on i, not on how many there are.
        strength: 0 gives the image itself each time, 1 independent ones: those of the seeds
            ``image_seeds(seed, num_images)``.
        class_label: of all images.
        guidance_scale: as in `DiffusionSampler.sample`, and so is `use_ema`.

    Returns:
        (num_images, C, H, W), float32 on the sampler's device, in [-1, 1].

    Raises:
        TypeError, ValueError: an argument makes no sense; the message says what to do.

    >>> from snowmelt import DiffusionSampler, create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> sampler = DiffusionSampler(model, solver="ddim", steps=2)
    >>> bool((variations(sampler, 5, 2, strength=0) == sampler.sample(1, seeds=[5])).all())
    True
    """
    num_images = check_count("num_images", num_images)
    labels = None if class_label is None else [class_label] * num_images
    wanted = sampler.request(num_images, labels, guidance_scale, use_ema, [seed] * num_images)
    weights = [check_strength(strength)] * num_images
    others = image_seeds(seed, num_images)
    noise = BlendedNoise(wanted.seeds, others, weights, sampler.model.image_shape, sampler.device)
    x = sampler.plan.prior_std * noise()
    return last(sampler, sampler.run(sampler.plan, x, labels, guidance_scale, use_ema, noise=noise))
