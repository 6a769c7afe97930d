"""Can one tell? The classifier two-sample test (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample
tests", ICLR).

A classifier learns to tell generated images from real ones, and is asked about images that it has not seen.
Right in 50 % of the cases means that the two cannot be told apart. Right in 100 % means that every image
gives itself away.

The classifier is a linear one (ridge) on the standardised features. With a frozen extractor that has seen a
million photographs it needs few images: with 80 of each kind it already tells more than a network that is
trained from nothing. All images are asked about: each one by a classifier that was fitted to the other folds.
Several divisions into folds are averaged.

**Fair.** Both sides have the same number of images, class by class where there are classes, and so has every
fold. The share of a class is no tell: neither is its absence, which a fold without it would turn around.
Images of both sides have gone through the same reading, resizing and rounding.

**Interval.** Independent errors would have the variance p (1 - p) / N. Those of several folds are not
independent, since their classifiers share training images. How much that widens the spread is measured on the
same images: generated and real are exchanged within random pairs, which makes the two sides alike, and the
variance of the result over such exchanges is compared with 1 / (4 N). A ridge classifier learns them all in
one pass. `benchmarks/eyes.py` divides real images a hundred times, and counts how often 50 % is inside.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from snowmelt.evaluation.features import Features
from snowmelt.evaluation.features.moments import check_same_dim
from snowmelt.evaluation.uncertainty import SEED, Estimate, Z, proportion_interval

__all__ = ["c2st"]

FOLDS, DIVISIONS = 5, 3
EXCHANGES = 200


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
    exchanged, (ours, theirs) = _exchanges(count), (side.numpy() for side in sides)
    right = np.mean([_recognised(ours, theirs, exchanged, folds, seed) for seed in range(divisions)], axis=0)
    value, null = float(right[0]), right[1:]
    effective = 2 * count / max(1.0, 8 * count * float(null.var(ddof=1)))  # independent images
    std = math.sqrt(value * (1 - value) / effective)
    low, high = proportion_interval(value, std, round(effective))
    least = 0.5 + Z * 0.5 / math.sqrt(effective)
    note = f"of {2 * count:,} images, a share below {least:.2f} cannot be told from 0.50"
    return Estimate(value, low, high, std, count, count, note)


def _as_many_of_each(generated: Features, real: Features) -> tuple[Tensor, Tensor]:
    """Return values of both sides, as many of each; class by class if both have common classes."""
    random = torch.Generator().manual_seed(SEED)
    classes: list[int | None] = [None]
    if generated.labels is not None and real.labels is not None:
        classes = [*sorted(set(generated.labels.tolist()) & set(real.labels.tolist()))] or classes
    chosen: tuple[list[Tensor], list[Tensor]] = [], []
    for label in classes:
        both = [each if label is None else each.of_class(label) for each in (generated, real)]
        count = min(map(len, both))
        for side, found in zip(chosen, both, strict=True):
            side.append(found.values[torch.randperm(len(found), generator=random)[:count]])
    return torch.cat(chosen[0]), torch.cat(chosen[1])


def _exchanges(count: int) -> np.ndarray:
    """Return the side that each image is said to be of, -1 or 1, (2 N, 1 + exchanges); column 0 is true."""
    side = np.repeat([-1.0, 1.0], count)[:, None]
    kept = np.random.default_rng(SEED).choice([-1.0, 1.0], (count, EXCHANGES))
    return np.hstack([side, side * np.tile(kept, (2, 1))])


def _recognised(
    generated: np.ndarray, real: np.ndarray, sides: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    """Return the share of images that classifiers of the other folds recognise, for each column of `sides`.

    Image i of one side and image i of the other, which are of one class, are always in one fold.
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # With as much regularisation as features, each one may bring its share, and none all of it
    classifier = make_pipeline(StandardScaler(), Ridge(alpha=generated.shape[1]))
    pairs = np.tile(np.random.default_rng(seed).permutation(len(real)) % folds, 2)
    features = np.concatenate([generated, real])
    found = cross_val_predict(classifier, features, sides, groups=pairs, cv=GroupKFold(folds))
    shares: np.ndarray = (found * sides > 0).mean(axis=0)
    return shares
