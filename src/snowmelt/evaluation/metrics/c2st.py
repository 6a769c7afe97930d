"""Can one tell? The classifier two-sample test (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample
tests", ICLR).

A classifier learns to tell generated images from real ones, and is asked about images that it has not seen.
Right in 50 % of the cases means that the two cannot be told apart. Right in 100 % means that every image
gives itself away.

The classifier is a linear one (ridge) on the standardised features. With a frozen extractor that has seen a
million photographs it needs few images: with 80 of each kind it already tells more than a network that is
trained from nothing. All images are asked about: each one by a classifier that was fitted to the other folds.
Several divisions into folds are averaged.

**Fair.** Both sides have the same number of images, class by class where there are classes, so that the share
of a class is no tell. Images of both sides have gone through the same reading, resizing and rounding.

**Interval.** With c_si = 1 if division s is right about image i, the variance is that of the mean over
images, plus that over divisions. It leaves out that the classifiers share training images:
`benchmarks/eyes.py` divides real images a hundred times, and counts how often 50 % is inside.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from snowmelt.evaluation.features import Features
from snowmelt.evaluation.features.moments import check_same_dim
from snowmelt.evaluation.uncertainty import SEED, Estimate, Z, influence_std, proportion_interval

__all__ = ["c2st"]

FOLDS, DIVISIONS = 5, 3


def c2st(generated: Features, real: Features, *, folds: int = FOLDS, divisions: int = DIVISIONS) -> Estimate:
    """Return the share of unseen images that a classifier recognises as generated or real.

    Args:
        generated, real: `folds` images or more in each; the larger set is cut at random. If both have labels
            and common classes, each class has as many generated as real images.
        folds: each image is classified by a classifier that was fitted to the other folds, >= 2.
        divisions: random divisions into folds, >= 1.

    Raises:
        ValueError: there are too few images, or the features come from different extractors.

    >>> generated, real = (Features(torch.randn(200, 8)) for _ in range(2))
    >>> 0.4 < c2st(generated, real).value < 0.6
    True
    """
    check_same_dim(generated.dim, real.dim)
    sides = [each.cpu().float() for each in _as_many_of_each(generated, real)]
    count = len(sides[0])
    if count < folds:
        raise ValueError(
            f"a classifier needs at least {folds} images of each set, class by class, got {count}"
        )
    features = torch.cat(sides).numpy()
    is_real = np.repeat([False, True], count)
    right = torch.stack([_recognised(features, is_real, folds, seed) for seed in range(divisions)])
    by_image, by_division = right.mean(dim=0), right.mean(dim=1)
    variance = influence_std(by_image) ** 2 + (influence_std(by_division) ** 2 if divisions > 1 else 0.0)
    value, std = float(right.mean()), math.sqrt(variance)
    low, high = proportion_interval(value, std, 2 * count)
    return Estimate(value, low, high, std, count, count, _resolution(2 * count))


def _as_many_of_each(generated: Features, real: Features) -> tuple[Tensor, Tensor]:
    """Return values of both sides, as many of each; class by class if both have common classes."""
    random = torch.Generator().manual_seed(SEED)
    classes: list[int | None] = [None]
    if generated.labels is not None and real.labels is not None:
        classes = [*sorted(set(generated.labels.tolist()) & set(real.labels.tolist()))] or classes
    chosen: tuple[list[Tensor], list[Tensor]] = [], []
    for label in classes:
        rows = [_rows_of(each, label) for each in (generated, real)]
        count = min(map(len, rows))
        for side, found in zip(chosen, rows, strict=True):
            side.append(found[torch.randperm(len(found), generator=random)[:count]])
    return generated.values[torch.cat(chosen[0])], real.values[torch.cat(chosen[1])]


def _rows_of(features: Features, label: int | None) -> Tensor:
    if label is None or features.labels is None:
        return torch.arange(len(features))
    return (features.labels == label).nonzero().flatten()


def _recognised(features: np.ndarray, is_real: np.ndarray, folds: int, seed: int) -> Tensor:
    """Return 1 for each image whose side a classifier of the other folds recognises, else 0, (N,) float64."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # With as much regularisation as features, each one may bring its share, and none all of it
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=features.shape[1]))
    division = StratifiedKFold(folds, shuffle=True, random_state=seed)
    found = cross_val_predict(classifier, features, is_real, cv=division)
    return torch.from_numpy((found == is_real).astype(np.float64))


def _resolution(count: int) -> str:
    return (
        f"of {count:,} images, a share below {0.5 + Z * 0.5 / math.sqrt(count):.2f} cannot be told from 0.50"
    )
