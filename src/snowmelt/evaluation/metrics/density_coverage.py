"""Density and coverage (Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models").

Around each real image is a ball that reaches to its k-th nearest real neighbour. Density is the number of
balls that a generated image lies in, on average and divided by k. It is 1 for images drawn as the real ones
are, and more for images that stay where balls overlap. Coverage is the share of balls that hold a generated
image. Unlike recall it never uses neighbourhoods of generated images, so outliers among them cannot raise it.

**Interval.** The delete-group jackknife over the real images, and for coverage also over the generated ones.
Density is a mean over generated images, and the standard error of that mean is added.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snowmelt.evaluation.features import Features
from snowmelt.evaluation.metrics.neighbours import MEMORY, Balls, balls
from snowmelt.evaluation.uncertainty import (
    Estimate,
    estimate,
    influence_std,
    jackknife_std,
    normal_interval,
    proportion_interval,
)

__all__ = ["coverage", "density", "density_coverage"]


def density_coverage(
    generated: Features, real: Features, *, k: int = 5, memory: int = MEMORY
) -> tuple[Estimate, Estimate]:
    """Return density, >= 0, and coverage, in [0, 1], with their 95 % intervals, from one pass over the pairs.

    Args:
        generated: one image or more.
        real: more than k images.
        k: the neighbour that a real image's ball reaches to.
        memory: bytes for a block of distances; it does not change the result.

    Raises:
        ValueError: there are too few images, or the features come from different extractors.

    >>> real = Features(torch.arange(10.0)[:, None])  # ten points on a line, balls of radius 1 around each
    >>> generated = Features(torch.tensor([[4.5], [4.6], [50.0], [51.0]]))  # in two balls each, or in none
    >>> dense, covered = density_coverage(generated, real, k=1)
    >>> dense.value, covered.value
    (1.0, 0.2)
    """
    if len(generated) == 0:
        raise ValueError("density and coverage need generated images, got none")
    found = balls(generated, real, k, memory=memory)
    counts = (len(generated), len(real))
    note = f"k = {k}"
    dense, dense_std = _density(found, k)
    low, high = normal_interval(dense, dense_std)
    covered, covered_std = _coverage(found)
    return (
        estimate(dense, dense_std, *counts, interval=(max(0.0, low), high), note=note),
        estimate(
            covered,
            covered_std,
            *counts,
            interval=proportion_interval(covered, covered_std, len(real)),
            note=note,
        ),
    )


def density(generated: Features, real: Features, **options: int) -> Estimate:
    """Return density alone; arguments as in `density_coverage`."""
    return density_coverage(generated, real, **options)[0]


def coverage(generated: Features, real: Features, **options: int) -> Estimate:
    """Return coverage alone; arguments as in `density_coverage`."""
    return density_coverage(generated, real, **options)[1]


def _density(found: Balls, k: int) -> tuple[float, float]:
    densities = found.counts.double() / k
    means = densities.mean(dim=1)
    return float(means[0]), math.hypot(influence_std(densities[0]), jackknife_std(means[1:]))


def _coverage(found: Balls) -> tuple[float, float]:
    without_real = found.filled[1:].sum(dim=1) / _left(found)
    holding = found.filled_by.sum(dim=0)
    # A ball stays filled without a group of generated images unless it holds that group alone
    without_generated = (holding - found.filled_by.int() > 0).double().mean(dim=1)
    std = math.hypot(jackknife_std(without_real), jackknife_std(without_generated))
    return float(found.filled[0].double().mean()), std


def _left(found: Balls) -> Tensor:
    """Return the number of centres that are left without each group, (G,)."""
    sizes = torch.bincount(found.centre_groups, minlength=found.groups)
    return len(found.centre_groups) - sizes
