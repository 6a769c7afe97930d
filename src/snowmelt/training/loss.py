"""The training objective."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from snowmelt.core import Level, NoiseSchedule, Parameterization

__all__ = ["denoising_loss", "drop_labels"]


def denoising_loss(
    network: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    schedule: NoiseSchedule,
    parameterization: Parameterization,
    x0: Tensor,
    class_labels: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the mean squared error of the network's prediction at random times and noise, a scalar.

    DDPM's L_simple (eq. 14) for eps, and its like for every other parameterization.

    Args:
        network: (x, time, class_labels) -> y.
        schedule: draws the times and makes the noise levels.
        parameterization: what y should be.
        x0: clean images (B, C, H, W) in [-1, 1].
        class_labels: (B,) integers, handed to the network as they are.
        generator: of the times, on the CPU; with one, the noise is drawn from it too (for validation).

    >>> from snowmelt.core import PARAMETERIZATIONS, RectifiedFlow
    >>> silent = lambda x, time, class_labels: torch.zeros_like(x)
    >>> loss = denoising_loss(silent, RectifiedFlow(), PARAMETERIZATIONS["x0"], torch.full((4, 1, 2, 2), 0.5))
    >>> loss
    tensor(0.2500)
    """
    level = schedule(schedule.draw_t(len(x0), generator))
    time = schedule.network_time(level).to(x0.device, torch.float32, non_blocking=True)
    # Levels are made in float64 on the CPU, and move to the images in their shape and dtype; nobody waits
    level = Level(*(number.to(x0, non_blocking=True).view(-1, 1, 1, 1) for number in level))
    eps = _noise_like(x0, generator)
    x_t = level.alpha * x0 + level.sigma * eps
    y = network(parameterization.input_scale(level) * x_t, time, class_labels)
    return mse_loss(y.to(x0.dtype), parameterization.target(x0, eps, level))


def drop_labels(class_labels: Tensor, null_class: int, prob: float) -> Tensor:
    """Return the labels, each replaced by the null class with probability `prob`.

    That is how one network learns both halves of classifier-free guidance (Ho and Salimans 2022,
    algorithm 1).

    >>> drop_labels(torch.tensor([3, 1]), null_class=10, prob=0.0)
    tensor([3, 1])
    """
    if prob == 0.0:
        return class_labels
    dropped = torch.rand(class_labels.shape, device=class_labels.device) < prob
    return class_labels.masked_fill(dropped, null_class)


def _noise_like(x0: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.randn_like(x0)
    return torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
