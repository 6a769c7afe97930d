"""From an image back to its noise ("DDIM inversion"), and from there to another class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from snowmelt.editing.checks import Spoken, check_images, choose_method, last
from snowmelt.plans import Method
from snowmelt.sampling import DiffusionSampler

__all__ = ["Inversion", "invert", "swap_class"]


class Inversion(NamedTuple):
    """Where images come from.

    Attributes:
        noise: (B, C, H, W), of about unit variance: sampling starts from ``plan.prior_std * noise``.
        restored: (B, C, H, W) in [-1, 1], what sampling makes of that noise.
        round_trip_error: (B,), root mean square of restored - image.
    """

    noise: Tensor
    restored: Tensor
    round_trip_error: Tensor


def invert(
    sampler: DiffusionSampler,
    images: Tensor,
    class_labels: Tensor | Sequence[int] | None = None,
    *,
    guidance_scale: float = 0.0,
    use_ema: bool = True,
    method: Spoken = None,
    **keywords: Any,
) -> Inversion:
    """Return the noise from which deterministic sampling leads to the images.

    A reversed plan follows the probability flow from the image to the noise. Both directions are exact in
    the limit of many steps; how far the image is missed with these is the round trip error. (With
    ``solver="ddim"`` this is the well-known DDIM inversion.)

    Args:
        sampler: its model, guidance, threshold and device are used, and its method.
        images: (B, C, H, W) in [-1, 1].
        class_labels: (B,), what the images show.
        guidance_scale: of both directions. Guidance strengthens what separates the paths, and with it the
            round trip error.
        use_ema: as in `DiffusionSampler.sample`.
        method: how to sample, as for `DiffusionSampler`; None takes the sampler's own method. It
            must be deterministic.
        keywords: in place of it: ``solver``, ``steps``, ``grid``, ``preset``, and options.

    Raises:
        TypeError, ValueError: an argument makes no sense; the message says what to do.

    >>> import torch
    >>> from snowmelt import DiffusionSampler, create_ddpm
    >>> sampler = DiffusionSampler(create_ddpm(image_size=8, in_channels=1, model_channels=32), steps=2)
    >>> inversion = invert(sampler, torch.zeros(2, 1, 8, 8), steps=5)
    >>> inversion.noise.shape, inversion.round_trip_error.shape
    (torch.Size([2, 1, 8, 8]), torch.Size([2]))
    """
    images = check_images(sampler, images)
    chosen = choose_method(sampler, method, keywords)
    noise = _noise_of(sampler, images, chosen, class_labels, guidance_scale, use_ema)
    restored = _image_of(sampler, noise, chosen, class_labels, guidance_scale, use_ema)
    error = (restored - images).flatten(1).square().mean(1).sqrt()
    return Inversion(noise, restored, error)


def swap_class(
    sampler: DiffusionSampler,
    images: Tensor,
    from_labels: Tensor | Sequence[int],
    to_labels: Tensor | Sequence[int],
    *,
    guidance_scale: float = 0.0,
    use_ema: bool = True,
    method: Spoken = None,
    **keywords: Any,
) -> Tensor:
    """Return the images as members of another class, with the same noise behind them.

    The way to the noise is followed under the old labels, the way back under the new ones: what the class
    does not determine, such as slant and stroke, comes along. (Two flows that meet in the noise: Su et al.
    2023, https://arxiv.org/abs/2203.08382.)

    Args:
        sampler: its model, guidance, threshold and device are used, and its method.
        images: (B, C, H, W) in [-1, 1].
        from_labels: (B,), what the images show.
        to_labels: (B,), target labels; the same labels give the images back, up to the round trip
            error of `invert`.
        guidance_scale: of both directions; other arguments as in `invert`.
        use_ema: as in `DiffusionSampler.sample`.
        method: how to sample, as for `DiffusionSampler`; None takes the sampler's own method. It
            must be deterministic.
        keywords: in place of it: ``solver``, ``steps``, ``grid``, ``preset``, and options.

    Returns:
        (B, C, H, W), float32 on the sampler's device, in [-1, 1].

    >>> import torch
    >>> from snowmelt import DiffusionSampler, create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32, num_classes=3)
    >>> sampler = DiffusionSampler(model, steps=2)
    >>> swap_class(sampler, torch.zeros(2, 1, 8, 8), [0, 1], [2, 2], steps=5).shape
    torch.Size([2, 1, 8, 8])
    """
    images = check_images(sampler, images)
    chosen = choose_method(sampler, method, keywords)
    for labels in (from_labels, to_labels):  # before the work on the first
        sampler.request(len(images), labels, guidance_scale, use_ema)
    noise = _noise_of(sampler, images, chosen, from_labels, guidance_scale, use_ema)
    return _image_of(sampler, noise, chosen, to_labels, guidance_scale, use_ema)


def _noise_of(
    sampler: DiffusionSampler,
    images: Tensor,
    method: Method,
    class_labels: Tensor | Sequence[int] | None,
    guidance_scale: float,
    use_ema: bool,
) -> Tensor:
    schedule = sampler.model.schedule
    for state in sampler.run(method.reversed(schedule), images, class_labels, guidance_scale, use_ema):
        x = state.x_t
    return x / method.plan(schedule).prior_std


def _image_of(
    sampler: DiffusionSampler,
    noise: Tensor,
    method: Method,
    class_labels: Tensor | Sequence[int] | None,
    guidance_scale: float,
    use_ema: bool,
) -> Tensor:
    plan = method.plan(sampler.model.schedule)
    states = sampler.run(plan, plan.prior_std * noise, class_labels, guidance_scale, use_ema)
    return last(sampler, states)
