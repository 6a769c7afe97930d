"""Denoisers that are exactly right, for data whose distribution is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from snowmelt.core import Level

__all__ = ["GaussianMixture"]


class GaussianMixture:
    """The exact denoiser of a mixture of isotropic Gaussians with one common standard deviation.

    For component i the noisy image is N(alpha mu_i, v I) with v = alpha^2 std^2 + sigma^2, and

        E[x0 | x_t, i] = mu_i + (alpha std^2 / v) (x_t - alpha mu_i);

    the components are weighed by their posterior probability. One component is a plain Gaussian; one
    narrow component a training image is what a network that memorised its data would say.

    Args:
        means: (K, ...), each shaped like an image.
        std: standard deviation of each component, > 0.
        class_labels: (K,) the class of each component, for conditional sampling; labels outside them (and
            None) mean no condition.

    >>> gaussian = GaussianMixture(torch.zeros(1, 1, 1, 1), std=1.0)
    >>> gaussian(torch.ones(1, 1, 1, 1), Level(0.5, 0.6, 0.8)).item()
    0.6...
    """

    def __init__(self, means: Tensor, std: float, class_labels: Tensor | None = None) -> None:
        if not std > 0:
            raise ValueError(f"std must be positive, got {std}")
        self.means = means
        self.std = std
        self.class_labels = class_labels

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        _, alpha, sigma = level
        variance = alpha**2 * self.std**2 + sigma**2
        means = self.means.flatten(1).to(x_t)
        flat = x_t.flatten(1)
        log_weights = -((flat[:, None] - alpha * means) ** 2).sum(-1) / (2 * variance)
        if class_labels is not None and self.class_labels is not None:
            other = self.class_labels != class_labels[:, None]
            known = ~other.all(dim=1, keepdim=True)
            log_weights = log_weights.masked_fill(other & known, -torch.inf)
        mean = torch.softmax(log_weights, dim=1) @ means
        shrink = alpha * self.std**2 / variance
        return (mean + shrink * (flat - alpha * mean)).view_as(x_t)
