"""Fréchet distance between two sets of features (Heusel et al. 2017, "GANs trained by a two time-scale
update rule").

    FID = |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^{1/2})

With S_1 = L L^T, the eigenvalues of S_1 S_2 are those of the symmetric M = L^T S_2 L, which are real and not
negative; so there is no square root of a product that is not symmetric, and no imaginary residue to discard.

**Interval.** FID is differentiable in both distributions. Towards S_1 its derivative is I - T, where
T = L^{-T} M^{1/2} L^{-1} is the optimal transport map from the first Gaussian to the second, and towards S_2
it is I - T^{-1}. An image x of the first set therefore has the influence

    2 (mu_1 - mu_2) . d + d^T (I - T) d,   d = x - mu_1

and the variance of the influences, divided by their number, is the variance of FID to first order (the
infinitesimal jackknife). That costs one eigendecomposition and no resampling. Where the two distributions are
almost equal it is too wide rather than too narrow.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from snowmelt.evaluation.features import Features, Moments
from snowmelt.evaluation.features.moments import check_same_dim
from snowmelt.evaluation.uncertainty import Estimate, estimate, group_order, normal_interval

__all__ = ["fid", "fid_infinity", "frechet_distance"]

LEVELS = (1, 2, 4)  # parts into which FID-infinity divides the generated images
SAMPLE = 2048  # images of a set from which the variance of the influences is estimated
SMALL = 1e-12  # eigenvalues below this share of the largest one are rounding errors


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return the Fréchet distance of two Gaussians: FID, where the moments are those of Inception features.

    >>> narrow, wide = (Moments(None, np.zeros(3), s**2 * np.eye(3)) for s in (1.0, 3.0))
    >>> round(frechet_distance(narrow, wide), 6)  # 3 (3 - 1)^2
    12.0
    """
    check_same_dim(first.dim, second.dim)
    spectrum = torch.linalg.eigvalsh(_symmetric(_root(first), second))
    return _distance(first, second, spectrum)


def fid(generated: Features, real: Features | Moments) -> Estimate:
    """Return FID with its 95 % interval.

    Args:
        generated: two images or more.
        real: features, or their moments alone; then the interval holds their part as fixed, and says so.

    Raises:
        ValueError: there are too few images, or the features come from different extractors.

    >>> generated, real = Features(torch.randn(3000, 4)), Features(torch.randn(3000, 4) + 1)
    >>> result = fid(generated, real)
    >>> 3 < result.low < result.value < result.high < 5  # the means are 2 apart
    True
    """
    first, second = _moments_of(generated), _moments_of(real)
    check_same_dim(first.dim, second.dim)
    root = _root(first)
    spectrum, vectors = torch.linalg.eigh(_symmetric(root, second))
    kept = _not_rounded(spectrum)
    quarter, basis = spectrum[kept] ** 0.25, vectors[:, kept]
    # T = H H^T with H = L^{-T} U lambda^{1/4}; T^{-1} = H' H'^T with H' = L U lambda^{-1/4}
    variance = _influence(generated.values, first.mean, second.mean, _divided(root, basis * quarter))
    fewest = len(generated)
    if isinstance(real, Features):
        variance += _influence(real.values, second.mean, first.mean, root @ (basis / quarter))
        fewest = min(fewest, len(real))
    value, std = _distance(first, second, spectrum), math.sqrt(variance)
    low, high = normal_interval(value, std)
    interval = (max(low, min(value, 0.0)), high)  # a distance; rounding may leave it just below 0
    note = _note(real, fewest, first.dim)
    return estimate(value, std, len(generated), second.count, interval=interval, note=note)


def fid_infinity(generated: Features, real: Features | Moments) -> Estimate:
    """Return FID extrapolated to infinitely many generated images (Chong and Forsyth 2020, "Effectively
    unbiased FID and Inception Score and where to find them").

    FID is linear in 1/N to first order. It is computed on all N generated images, on both halves and on all
    four quarters; the means at 1/N, 2/N and 4/N use every image and give the line by least squares. Its value
    at 1/N = 0 is free of the bias that comes from the number of generated images, not of that from the real
    ones. To first order it errs as FID itself does, so it has FID's standard error.

    Args:
        generated: 16 images or more.
        real: features or moments.

    Raises:
        ValueError: there are too few images.
    """
    count, parts = len(generated), max(LEVELS)
    if count < 4 * parts:
        raise ValueError(f"FID-infinity needs at least {4 * parts} generated images, got {count}")
    whole, reference = fid(generated, real), _moments_of(real)
    order = group_order(count).to(generated.values.device)
    quarters = [Moments.of(generated.values[rows]) for rows in order.tensor_split(parts)]
    levels = [
        [whole.value]
        if level == 1
        else [frechet_distance(part, reference) for part in _joined(quarters, level)]
        for level in LEVELS
    ]
    _, intercept = statistics.linear_regression(LEVELS, [statistics.fmean(level) for level in levels])
    low, high = normal_interval(intercept, whole.std)
    return replace(whole, value=intercept, low=low, high=high)


def _joined(parts: list[Moments], level: int) -> Iterator[Moments]:
    """Yield `level` equal unions of the parts."""
    size = len(parts) // level
    return (Moments.merged(parts[start : start + size]) for start in range(0, len(parts), size))


def _moments_of(images: Features | Moments) -> Moments:
    if isinstance(images, Moments):
        return images
    if len(images) < 2:
        raise ValueError(f"FID needs at least 2 images in each set, got {len(images)}")
    return images.moments


def _note(real: Features | Moments, fewest: int, dimensions: int) -> str:
    notes = []
    if isinstance(real, Moments):
        notes.append("the interval holds the real images' statistics as fixed")
    if fewest <= dimensions:
        notes.append(f"the covariance of {fewest:,} images in {dimensions:,} dimensions is singular")
    return "; ".join(notes)


def _root(moments: Moments) -> Tensor:
    """Return L (D, r) with L L^T = covariance and r its rank: Cholesky's factor where there is one."""
    covariance = torch.from_numpy(moments.covariance)
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(covariance)
    if failed:
        values, vectors = torch.linalg.eigh(covariance)
        kept = _not_rounded(values)
        root = vectors[:, kept] * values[kept].sqrt()
    return root


def _not_rounded(values: Tensor) -> Tensor:
    """Return which eigenvalues, in rising order, are more than rounding errors; of zeros, none."""
    kept: Tensor = values > SMALL * values[-1:].clamp(min=0)
    return kept


def _divided(root: Tensor, columns: Tensor) -> Tensor:
    """Return L^{-T} columns, on the range of L where it has no inverse."""
    if root.shape[0] == root.shape[1]:
        solved: Tensor = torch.linalg.solve_triangular(root.T, columns, upper=True)
        return solved
    return root / root.square().sum(dim=0) @ columns  # its columns are orthogonal


def _symmetric(root: Tensor, moments: Moments) -> Tensor:
    product: Tensor = root.T @ torch.from_numpy(moments.covariance) @ root
    return (product + product.T) / 2


def _distance(first: Moments, second: Moments, spectrum: Tensor) -> float:
    shift = first.mean - second.mean
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    return float(shift @ shift + traces - 2 * float(spectrum.clamp(min=0).sqrt().sum()))


def _influence(features: Tensor, mean: np.ndarray, other_mean: np.ndarray, half: Tensor) -> float:
    """Return what a set adds to the variance of FID: that of its images' influences, over their number.

    An influence is 2 (mean - other mean) . d + |d|^2 - |d H|^2, with H (D, r) and H H^T the map T. For a
    variance, a sample of many images is enough, and so is float32.
    """
    chosen = features[group_order(len(features))[:SAMPLE].to(features.device)].detach().cpu()
    d = (chosen - torch.from_numpy(mean)).float()  # the difference itself in float64
    shift = torch.from_numpy(2 * (mean - other_mean)).float()
    influences = d @ shift + d.square().sum(dim=1) - (d @ half.float()).square().sum(dim=1)
    return float(influences.double().var()) / len(features)
