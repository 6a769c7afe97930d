"""What the comparisons with other libraries share: two stand-ins for a trained model, and their noise."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch

from snowmelt.core import PARAMETERIZATIONS, Level
from snowmelt.denoisers import Denoiser, GaussianMixture
from snowmelt.plans import integrate

__all__ = ["network", "of_network", "oracle", "path_through", "run", "sigma_hat", "start"]


def oracle(dtype):
    """Return an exact denoiser of six numbers: a mixture of three Gaussians."""
    generator = torch.Generator().manual_seed(7)
    return GaussianMixture(torch.randn(3, 6, dtype=torch.float64, generator=generator).to(dtype), 0.4)


def run(plan, x, draws=()):
    """Run a plan on `oracle`."""
    return integrate(plan, oracle(x.dtype), x, noise=iter(draws).__next__)


def start(level, dtype):
    return math.hypot(level.alpha, level.sigma) * torch.randn(4, 6, dtype=dtype)


def network(x, k):
    """A network that knows the trained index k: smooth, bounded, different at every index."""
    return torch.sin(3 * x + 0.001 * float(k)) * 0.5 + 0.1 * x


def of_network(schedule, prediction) -> Denoiser:
    """Return the denoiser that `network` is if it predicts `prediction` on a discrete schedule."""
    parameterization = PARAMETERIZATIONS[prediction]

    def denoiser(x_t, level, class_labels=None):
        return parameterization.x0(x_t, network(x_t, schedule.index_of_t(level.t)), level)

    return denoiser


def sigma_hat(level: Level[float]) -> float:
    """Return the noise in the frame of most peers, where alpha is 1."""
    return level.sigma / level.alpha


def path_through(plan, draws):
    """Return a noise sampler; `draws` are the increments of its Brownian path from level to level."""
    points = [sigma_hat(level) for level in plan.levels]
    heights = [torch.zeros_like(draws[0])]
    for draw, (a, b) in zip(draws, pairwise(points), strict=True):
        heights.append(heights[-1] + math.sqrt(a - b) * draw)

    def sample(a, b):
        i, j = (int(np.abs(np.array(points) - float(n)).argmin()) for n in (a, b))
        return (heights[j] - heights[i]) / math.sqrt(points[i] - points[j])

    return sample
