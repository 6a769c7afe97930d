"""How a network learns the variance of its own ancestral steps.

From level s to t, one trained index below, with beta = 1 - (alpha_s / alpha_t)^2, the posterior of a known
image has the variance beta' = beta sigma_t^2 / sigma_s^2 (DDPM eq. 7), and beta bounds the best one from
above. A second half of the network's output, v, interpolates their logarithms (Nichol & Dhariwal 2021,
Improved DDPM, eq. 15):

    log variance = f log beta + (1 - f) log beta',    f = (v + 1) / 2.

L_simple says nothing of v. So training adds a thousandth of the variational bound, T times the mean over the
indices, in which the prediction of the image is held fixed: it teaches v, and v alone (eq. 16,
L_hybrid = L_simple + 0.001 L_vlb). It is counted in bits per dimension, as in the paper's code.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from snowmelt.core import DiscreteSchedule
from snowmelt.models import DiffusionModel

__all__ = ["bound", "variance_loss"]

WEIGHT = 1e-3  # of the bound: lambda of Nichol & Dhariwal 2021, eq. 16
_TINY = 1e-12  # of a probability, as in the paper's code
_HALF_STEP = 1 / 255  # between two of the 256 values of a pixel in [-1, 1]


def variance_loss(
    model: DiffusionModel, t: Tensor, x0: Tensor, predicted: Tensor, variance: Tensor
) -> Tensor:
    """Return what is added to each image's error, (B,).

    Args:
        model: on a discrete schedule.
        t: the times (B,), float64 on the CPU, so that nobody waits for a device.
        x0: clean images (B, C, H, W) in [-1, 1].
        predicted: what the network takes them for, without a gradient.
        variance: the network's v, shaped like `x0`.
    """
    schedule = cast(DiscreteSchedule, model.schedule)
    return WEIGHT * schedule.num_timesteps * bound(schedule, t, x0, predicted, variance)


def bound(schedule: DiscreteSchedule, t: Tensor, x0: Tensor, predicted: Tensor, variance: Tensor) -> Tensor:
    """Return the variational bound's term of each image's time, (B,), in bits per dimension.

    It is the divergence between the posterior and the network's step (DDPM eq. 5, L_{t-1}); at the first
    index, the code length of the image's 256 values (DDPM eq. 13). Arguments as for `variance_loss`.
    """
    one = 1 / schedule.num_timesteps
    beta, _, of_x0 = _step(schedule, t)
    # At the first index beta' is 0, and that of the second one stands in, as in the paper's code
    _, below, _ = _step(schedule, t.clamp(min=2 * one))
    low, high, of_x0, first = (
        number.view(-1, 1, 1, 1).to(x0, non_blocking=True)
        for number in (below.log(), beta.log(), of_x0, (t < 1.5 * one).double())
    )
    f = (variance + 1) / 2
    log_variance = f * high + (1 - f) * low
    error = of_x0 * (x0 - predicted)  # of the mean
    # Between two Gaussians, whose variances are exp(low) and exp(log_variance)
    divergence = (log_variance - low - 1 + (low - log_variance).exp() + error**2 * (-log_variance).exp()) / 2
    nats = torch.where(first > 0, _code_length(x0, error, log_variance), divergence)
    return nats.flatten(1).mean(1) / math.log(2)


def _step(schedule: DiscreteSchedule, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return beta and beta' of the steps down from times, and how much of the image is in the mean."""
    s, t_below = schedule(t), schedule((t - 1 / schedule.num_timesteps).clamp(min=0.0))
    beta = 1 - (s.alpha / t_below.alpha) ** 2
    # DDPM eq. 7
    return beta, beta * (t_below.sigma / s.sigma) ** 2, t_below.alpha * beta / s.sigma**2


def _code_length(x0: Tensor, error: Tensor, log_variance: Tensor) -> Tensor:
    """Return minus the logarithm of a Gaussian's mass around each pixel's value (DDPM eq. 13).

    The values at both ends take what lies beyond them.
    """
    precision = (-log_variance / 2).exp()
    upper = torch.special.ndtr(precision * (error + _HALF_STEP))
    lower = torch.special.ndtr(precision * (error - _HALF_STEP))
    mass = torch.where(x0 < -0.999, upper, torch.where(x0 > 0.999, 1 - lower, upper - lower))
    return -mass.clamp(min=_TINY).log()
