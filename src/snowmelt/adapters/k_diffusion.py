"""k-diffusion's denoisers: ``model(x, sigma, **extra_args) -> x0`` at x = x0 + sigma eps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from snowmelt.core import VE
from snowmelt.models import DiffusionModel

__all__ = ["from_k_diffusion"]


class _Keywords(nn.Module):
    """Calls a denoiser as k-diffusion's samplers do, the labels under their keyword."""

    def __init__(self, denoiser: Callable[..., Tensor], label_name: str, extra_args: dict[str, Any]) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.label_name = label_name
        self.extra_args = extra_args

    def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None) -> Tensor:
        labels = {} if class_labels is None else {self.label_name: class_labels}
        return self.denoiser(x, sigma, **labels, **self.extra_args)


def from_k_diffusion(
    denoiser: Callable[..., Tensor],
    image_shape: tuple[int, int, int],
    *,
    num_classes: int | None = None,
    null_class: int | None = None,
    label_name: str = "class_cond",
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    **extra_args: Any,
) -> DiffusionModel:
    """Return a k-diffusion denoiser as a model on the schedule `VE`.

    Args:
        denoiser: ``(x, sigma, **extra_args) -> x0``, such as ``k_diffusion.layers.Denoiser`` or
            ``k_diffusion.external.DiscreteEpsDDPMDenoiser``.
        image_shape: (C, H, W).
        num_classes: number of classes; None for an unconditional denoiser.
        null_class: the label that stands for no condition; None where it knows none.
        label_name: the keyword under which it takes labels (B,).
        sigma_min, sigma_max: the noise levels between which to sample; None takes those of a denoiser that
            has them, or EDM's 0.002 and 80.
        extra_args: handed to every call.

    >>> from snowmelt import DiffusionSampler
    >>> denoiser = lambda x, sigma: x / (1 + sigma.view(-1, 1, 1, 1) ** 2)
    >>> model = from_k_diffusion(denoiser, (1, 2, 2), sigma_max=20.0)
    >>> DiffusionSampler(model, solver="dpmpp_2m", steps=4, grid="karras").sample(3).shape
    torch.Size([3, 1, 2, 2])
    """
    if sigma_min is None:
        sigma_min = float(getattr(denoiser, "sigma_min", 0.002))
    if sigma_max is None:
        sigma_max = float(getattr(denoiser, "sigma_max", 80.0))
    return DiffusionModel(
        _Keywords(denoiser, label_name, extra_args),
        VE(sigma_min, sigma_max),
        "x0",
        image_shape=image_shape,
        time="sigma",
        num_classes=num_classes,
        null_class=null_class,
    )
