"""Kernel distance between two sets of features (Binkowski et al. 2018, "Demystifying MMD GANs").

The squared maximum mean discrepancy with the kernel k(x, y) = (x . y / D + 1)^3, without bias:

    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

As in torch-fidelity it is the mean over 100 random subsets of 1,000 images of each set.

**Interval.** To first order an image x moves MMD^2 by twice how much nearer it is to its own set than to the
other, 2 (mean_j k(x, x_j) - mean_j k(x, y_j)); these row sums stand in the kernel matrices anyway. Their
variance over the number of images is the variance of KID; that of the mean over random subsets is added.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snowmelt.evaluation.features import Features
from snowmelt.evaluation.features.moments import check_same_dim
from snowmelt.evaluation.uncertainty import SEED, Estimate, estimate
from snowmelt.text import counted

__all__ = ["kid"]

PARTS = 4  # into which the images of a subset are divided


class _Discrepancy(NamedTuple):
    value: float
    variance_first: float  # of the images' influences
    variance_second: float


def kid(generated: Features, real: Features, *, subsets: int = 100, subset_size: int = 1000) -> Estimate:
    """Return KID with its 95 % interval; it may be slightly negative where the two sets are alike.

    Args:
        generated, real: two images or more in each.
        subsets: the number of subsets, >= 1.
        subset_size: images of each set in a subset; if a set has fewer, the size of the smaller set.

    Raises:
        ValueError: there are too few images, or the features come from different extractors.

    >>> import torch
    >>> generated, real = Features(torch.randn(500, 8)), Features(torch.randn(500, 8) + 1)
    >>> result = kid(generated, real, subsets=10, subset_size=200)
    >>> result.low < result.value < result.high
    True
    """
    size = min(subset_size, len(generated), len(real))
    if size < 2 or subsets < 1:
        raise ValueError(
            f"KID needs at least one subset of two images of each set, got {counted(subsets, 'subset')} of "
            f"{subset_size} from {len(generated)} generated and {len(real)} real images"
        )
    check_same_dim(generated.dim, real.dim)
    random = torch.Generator().manual_seed(SEED)
    sets = [each.values.detach() for each in (generated, real)]
    found = [
        _discrepancy(*(each[torch.randperm(len(each), generator=random)[:size]] for each in sets))
        for _ in range(1 if size == len(generated) == len(real) else subsets)  # all subsets are the same
    ]
    values, first, second = np.array(found).T
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    variance = first.mean() / len(generated) + second.mean() / len(real) + spread**2 / len(values)
    note = f"{counted(len(values), 'subset')} of {size:,} images, which spread by {spread:.2g}"
    return estimate(
        float(values.mean()), math.sqrt(variance), len(generated), len(real), note=note, biased=False
    )


def _discrepancy(first: Tensor, second: Tensor) -> _Discrepancy:
    cross = _kernel(first, second)
    towards_second, towards_first = (cross.mean(dim=dim, dtype=torch.float64) for dim in (1, 0))
    among_first, among_second = _mean_among(first), _mean_among(second)
    return _Discrepancy(
        float(among_first.mean() + among_second.mean() - towards_second.mean() - towards_first.mean()),
        float((2 * (among_first - towards_second)).var()),
        float((2 * (among_second - towards_first)).var()),
    )


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    similarity = (first @ second.T).div_(first.shape[1]).add_(1)
    return similarity.square().mul_(similarity)


def _mean_among(images: Tensor) -> Tensor:
    """Return the mean kernel of each image with the others, (N,).

    The matrix is symmetric: of two blocks that mirror each other, one is computed.
    """
    parts = images.tensor_split(PARTS)
    sums = [torch.zeros(len(part), dtype=torch.float64, device=images.device) for part in parts]
    for i, j in combinations_with_replacement(range(PARTS), 2):
        block = _kernel(parts[i], parts[j])
        sums[i] += block.sum(dim=1, dtype=torch.float64)
        sums[j] += block.sum(dim=0, dtype=torch.float64) if i != j else -block.diagonal()
    return torch.cat(sums) / (len(images) - 1)
