"""Precision and recall of manifolds (Kynkäänniemi et al. 2019, "Improved precision and recall metric for
assessing generative models").

A set's manifold is the union of balls around its images, each reaching to the image's k-th nearest neighbour
in the set. Precision is the share of generated images on the real manifold, recall the share of real images
on the generated one.

**Interval.** The images that are counted add the variance of a share. The images that span the manifold add
that of the delete-group jackknife, which includes the radii. Wilson's formula makes the interval of the sum.
"""

from __future__ import annotations

import math

from snowmelt.evaluation.features import Features
from snowmelt.evaluation.metrics.neighbours import MEMORY, balls
from snowmelt.evaluation.uncertainty import (
    Estimate,
    estimate,
    influence_std,
    jackknife_std,
    proportion_interval,
)

__all__ = ["precision", "recall"]


def precision(generated: Features, real: Features, *, k: int = 3, memory: int = MEMORY) -> Estimate:
    """Return the share of generated images on the real manifold, in [0, 1], with its 95 % interval.

    Args:
        generated: one image or more.
        real: more than k images.
        k: the neighbour that a real image's ball reaches to.
        memory: bytes for a block of distances; it does not change the result.

    Raises:
        ValueError: there are too few images, or the features come from different extractors.

    >>> import torch
    >>> real = Features(torch.arange(10.0)[:, None])  # ten points on a line, balls of radius 1 around each
    >>> precision(Features(torch.tensor([[0.5], [9.5], [12.0], [-7.0]])), real, k=1).value
    0.5
    """
    value, std = _share_on_manifold(generated, real, k, memory)
    interval = proportion_interval(value, std, len(generated))
    return estimate(value, std, len(generated), len(real), interval=interval, note=f"k = {k}")


def recall(generated: Features, real: Features, *, k: int = 3, memory: int = MEMORY) -> Estimate:
    """Return the share of real images on the generated manifold: precision with the roles swapped.

    The arguments are those of `precision`; here `generated` must have more than k images.
    """
    value, std = _share_on_manifold(real, generated, k, memory)
    interval = proportion_interval(value, std, len(real))
    return estimate(value, std, len(generated), len(real), interval=interval, note=f"k = {k}")


def _share_on_manifold(points: Features, centres: Features, k: int, memory: int) -> tuple[float, float]:
    if len(points) == 0:
        raise ValueError("precision and recall need images in both sets, got an empty one")
    on_manifold = (balls(points, centres, k, memory=memory).counts > 0).double()
    shares = on_manifold.mean(dim=1)
    return float(shares[0]), math.hypot(influence_std(on_manifold[0]), jackknife_std(shares[1:]))
