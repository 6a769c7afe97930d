"""How well classifiers recognise test images, how far two of them differ, and how certain that is.

**Interval of a share.** A figure varies with the seed of the training and with the test images. With
c_si = 1 if the classifier of seed s is right about image i, the balanced accuracy is the mean over K classes
of the mean over the N_k images of each. Its variance over S seeds is

    var_s(balanced accuracy of s) / S + sum_k var_(i in k)(mean_s c_si) / (N_k K^2)

A class of few test images can agree by chance. So the variance within each class counts as if two more
images had the variance within all classes. S and N_k are small, so the interval is that of Student's t with
Satterthwaite's degrees of freedom, and for shares that of Wilson with as wide a standard error.

**Differences** are paired: both classifiers have the same seeds and the same test images, and c_si is -1, 0
or 1. Where few images or none change, half an image is added that changes for the better, and half a one for
the worse (Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions").
All this is for the given training images, which are not drawn again.

**Interval of an average precision.** It is no mean over images. Its variance over images comes from
computing it again without each tenth of the images of every class (the delete-group jackknife).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from snowmelt.errors import optional
from snowmelt.evaluation.uncertainty import (
    GROUPS,
    LEVEL,
    Estimate,
    Z,
    group_order,
    jackknife_std,
    proportion_interval,
)
from snowmelt.text import counted

__all__ = [
    "Figures",
    "Outcome",
    "SeedFigures",
    "average_precision",
    "figures",
    "mean_estimate",
    "outcome_of",
    "seed_figures",
]

MORE_IMAGES = 2  # with the variance within all classes, for each class
LARGEST_VARIANCE = 0.25  # of a share
NOTHING = 1e-20  # a variance that rounding makes


@dataclass(frozen=True)
class SeedFigures:
    """What the classifier of one seed reaches on the test images; classes by their names."""

    seed: int
    balanced_accuracy: float
    recall: dict[str, float]
    average_precision: dict[str, float]


@dataclass(frozen=True)
class Figures:
    """How well classifiers recognise test images, or how far two of them differ in it.

    Attributes:
        balanced_accuracy: the mean of all classes' recalls.
        recall: the share of the images of each class that are recognised.
        average_precision: the area under the curve of precision and recall of each class against the rest.
    """

    balanced_accuracy: Estimate
    recall: dict[str, Estimate]
    average_precision: dict[str, Estimate]


class Outcome(NamedTuple):
    """What S classifiers make of N test images of T classes, or how two sets of classifiers differ.

    Attributes:
        classes: the T classes that have test images.
        members: the indices of the images of each.
        right: (S, N) whether each image is recognised, 0 or 1, or a difference of that.
        precisions: (1 + G, S, T) average precision, for all images and without each of G groups of images.
    """

    classes: list[int]
    members: list[Tensor]
    right: Tensor
    precisions: Tensor

    def minus(self, other: Outcome) -> Outcome:
        """Return the differences of classifiers that have the same seeds and the same test images."""
        return self._replace(right=self.right - other.right, precisions=self.precisions - other.precisions)


def outcome_of(probabilities: Tensor, labels: Tensor) -> Outcome:
    """Return what is needed for all figures.

    Args:
        probabilities: (S, N, K) of each seed's classifier.
        labels: (N,) the true classes.

    >>> found = outcome_of(torch.eye(2).expand(3, 2, 2), torch.tensor([0, 1]))
    >>> found.right.shape, found.precisions.shape
    (torch.Size([3, 2]), torch.Size([11, 3, 2]))
    """
    classes = [int(label) for label in labels.unique()]
    members = [(labels == label).nonzero().flatten() for label in classes]
    right = (probabilities.argmax(dim=2) == labels).double()
    # Class by class in random order: each group has its share of every class
    order = group_order(len(labels))
    order = order[labels[order].argsort(stable=True)]
    group = torch.empty_like(order)
    group[order] = torch.arange(len(order)) % GROUPS
    kept = [torch.ones_like(labels, dtype=torch.bool), *(group != number for number in range(GROUPS))]
    scores, positive = probabilities[..., classes].mT.contiguous(), labels == torch.tensor(classes)[:, None]
    areas = [average_precision(scores[..., part], positive[:, part]) for part in kept]
    return Outcome(classes, members, right, torch.stack(areas))


def figures(found: Outcome, names: Sequence[str], n_generated: int, *, compared: bool = False) -> Figures:
    """Return estimates of all figures, with 95 % intervals.

    Args:
        found: of classifiers, or a difference of two sets of them.
        names: of the classes.
        n_generated: the number of generated images that they learned from.
        compared: it is a difference, which lies between -1 and 1.

    >>> labels = torch.arange(100) // 50
    >>> found = outcome_of(torch.eye(2)[labels].expand(3, 100, 2), labels)
    >>> print(figures(found, ["ant", "bee"], 0).balanced_accuracy)
    1.000 (0.963, 1.000)
    """
    recall, precision = {}, {}
    for number, (label, members) in enumerate(zip(found.classes, found.members, strict=True)):
        recall[names[label]] = mean_estimate(found.right, [members], n_generated, compared=compared)
        precision[names[label]] = _precision_estimate(
            found.precisions[:, :, number], len(members), n_generated, compared
        )
    balanced = mean_estimate(found.right, found.members, n_generated, compared=compared)
    return Figures(balanced, recall, precision)


def seed_figures(found: Outcome, names: Sequence[str], seeds: Sequence[int]) -> list[SeedFigures]:
    """Return the figures of each seed's classifier by itself."""
    results = []
    for row, seed in enumerate(seeds):
        recalls = [float(found.right[row, members].mean()) for members in found.members]
        tested_names = [names[label] for label in found.classes]
        precisions = found.precisions[0, row].tolist()
        results.append(
            SeedFigures(
                seed,
                sum(recalls) / len(recalls),
                dict(zip(tested_names, recalls, strict=True)),
                dict(zip(tested_names, precisions, strict=True)),
            )
        )
    return results


def mean_estimate(
    values: Tensor, members: Sequence[Tensor], n_generated: int = 0, *, compared: bool = False
) -> Estimate:
    """Return the mean over classes of the mean over each class's images and all seeds.

    Args:
        values: (S, N) 0 or 1, or differences of these; one seed has no variance between seeds.
        members: the indices of each class's images.
        n_generated: is stated in the estimate.
        compared: the values are differences.

    >>> values = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    >>> mean_estimate(values, [torch.arange(2), torch.tensor([2])])
    Estimate(value=0.875, ..., n_real=3, note='mean of 2 trainings')
    """
    values, classes = values.double(), len(members)
    by_seed = torch.stack([values[:, each].mean(dim=1) for each in members]).mean(dim=0)
    by_image = values.mean(dim=0)
    added = 1 / classes if compared else 0.0  # half an image for the better and half for the worse, in all
    squares = [float((by_image[each] - by_image[each].mean()).square().sum()) + added for each in members]
    count = sum(len(each) for each in members)
    within = sum(squares) / (count - classes) if count > classes else LARGEST_VARIANCE
    parts = [_between(by_seed)]
    for square, each in zip(squares, members, strict=True):
        freedom = len(each) - 1 + MORE_IMAGES
        variance = (square + MORE_IMAGES * within) / freedom
        parts.append((variance / (len(each) * classes**2), freedom))
    effective = classes**2 / sum(1 / len(each) for each in members)
    return _estimate(float(by_seed.mean()), parts, effective, len(by_seed), (n_generated, count), compared)


def _precision_estimate(values: Tensor, positives: int, n_generated: int, compared: bool) -> Estimate:
    """Return the estimate of one class's average precision, from values (1 + G, S)."""
    by_seed, without = values[0], values[1:].mean(dim=1)
    # One image of a class says next to nothing about others
    over_images = (jackknife_std(without) ** 2, GROUPS - 1) if positives > 1 else (LARGEST_VARIANCE, 1)
    parts = [_between(by_seed), over_images]
    sizes = n_generated, positives
    return _estimate(float(by_seed.mean()), parts, positives, len(by_seed), sizes, compared)


def _between(by_seed: Tensor) -> tuple[float, int]:
    """Return the variance of the mean of seeds, and its degrees of freedom; one seed has no variance."""
    if len(by_seed) == 1:
        return 0.0, 1
    return float(by_seed.var()) / len(by_seed), len(by_seed) - 1


def _estimate(
    value: float,
    parts: Sequence[tuple[float, int]],
    effective: float,
    trainings: int,
    sizes: tuple[int, int],
    compared: bool,
) -> Estimate:
    """Return an estimate from parts of its variance, each with its degrees of freedom.

    Args:
        value: the estimate.
        parts: of the variance.
        effective: the number of images that decides the interval if all of them agree.
        trainings: the number of seeds.
        sizes: the numbers of generated and of tested images.
        compared: it is a difference.
    """
    student_t = optional("scipy.stats", "an interval of usefulness", "evaluate").t
    parts = [(part if part > NOTHING else 0.0, freedom) for part, freedom in parts]
    variance = sum(part for part, _ in parts)
    # Satterthwaite (1946), "An approximate distribution of estimates of variance components", equation 17
    spread = sum(part**2 / freedom for part, freedom in parts)
    reach = float(student_t.ppf((1 + LEVEL) / 2, variance**2 / spread)) if spread > 0 else Z
    std = math.sqrt(variance)
    if not compared:
        low, high = proportion_interval(value, std * reach / Z, effective)
    else:
        # If all agree, the number of images alone decides how small a difference would have been seen
        half = reach * std if std > 0 else proportion_interval(0.0, 0.0, effective)[1]
        low, high = max(-1.0, value - half), min(1.0, value + half)
    return Estimate(value, low, high, std, *sizes, f"mean of {counted(trainings, 'training')}")


def average_precision(scores: Tensor, positive: Tensor) -> Tensor:
    """Return the area under the curve of precision and recall, (...), as scikit-learn defines it.

    It is the mean over all positive images of the precision among the images that score at least as much
    (``sklearn.metrics.average_precision_score``, which takes one curve at a time).

    Args:
        scores: (..., N).
        positive: (..., N) bool. Where there is none, the area is 0.

    >>> average_precision(torch.tensor([0.9, 0.5, 0.5, 0.1]), torch.tensor([True, False, True, False]))
    tensor(0.8333, dtype=torch.float64)
    """
    falling, order = scores.sort(dim=-1, descending=True)
    hits = positive.expand_as(scores).gather(-1, order).double()
    above = torch.searchsorted(-falling, -falling, right=True)  # the number of images that score as much
    precision = hits.cumsum(dim=-1).gather(-1, above - 1) / above
    return (hits * precision).sum(dim=-1) / hits.sum(dim=-1).clamp(min=1)
