"""Is it new: copies of training images among generated images.

Each generated image has a nearest training image, at a distance d. Real images that the model never saw have
one too, and they are not copies. So held-out images decide which distance is too small: the copy rate is

    share of generated images with d <= q,   q = a low quantile of the held-out images' distances d

A model that has learned the distribution itself has a copy rate of about that quantile (1 %, say), as the
held-out images have. Two generated images at a distance up to q are duplicates of each other. The rate of
duplicates grows with the number of images, so compare it only between sets of one size.

**Interval.** The generated images add the variance of a share, and the held-out images add that of the
delete-group jackknife of q. Wilson's formula makes the interval of the sum. A quantile of 1 % needs hundreds
of held-out images.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from snowmelt.evaluation.answers.nearest import nearest, nearest_twins
from snowmelt.evaluation.features import Features
from snowmelt.evaluation.metrics.neighbours import MEMORY
from snowmelt.evaluation.uncertainty import (
    GROUPS,
    Estimate,
    group_order,
    influence_std,
    jackknife_std,
    proportion_interval,
)
from snowmelt.json_files import Json, plain
from snowmelt.report import INTERVALS, Block, Chapter, Picture, Table

__all__ = ["Novelty", "novelty", "novelty_chapter"]


@dataclass(frozen=True, eq=False)
class Novelty:
    """How new generated images are.

    Attributes:
        nearest: (N,) int64, the nearest training image of each generated one.
        distances: (N,), its distance.
        threshold: distance up to which an image counts as a copy.
        quantile: which quantile of the held-out images' distances the threshold is.
        copy_rate: share of generated images that are copies of training images.
        held_out_rate: the same for held-out real images: about `quantile`.
        twins: (N,) int64, the nearest other generated image of each one.
        twin_distances: (N,), its distance.
        duplicate_rate: share of generated images whose twin is at most at the threshold.
    """

    nearest: Tensor
    distances: Tensor
    threshold: float
    quantile: float
    copy_rate: Estimate
    held_out_rate: Estimate
    twins: Tensor
    twin_distances: Tensor
    duplicate_rate: Estimate

    def copies(self) -> list[tuple[int, int]]:
        """Return (generated, training) of each copy, the closest first."""
        return self._pairs(self.distances, self.nearest)

    def duplicates(self) -> list[tuple[int, int]]:
        """Return the pairs of an image and its nearest duplicate, the closest first.

        Many equal images make one pair each, not a pair for every two of them.
        """
        pairs = self._pairs(self.twin_distances, self.twins)
        return list(dict.fromkeys((min(pair), max(pair)) for pair in pairs))

    def _pairs(self, distances: Tensor, partners: Tensor) -> list[tuple[int, int]]:
        """Return each image and its partner up to the threshold, the closest first."""
        order = distances.argsort(stable=True)
        chosen = order[distances[order] <= self.threshold]
        return list(zip(chosen.tolist(), partners[chosen].tolist(), strict=True))

    def to_dict(self) -> Json:
        """Return it as plain values that JSON knows."""
        pairs = {"copies": self.copies(), "duplicates": self.duplicates()}
        values: Json = plain(self) | plain(pairs)
        return values


def novelty(
    generated: Features,
    training: Features,
    held_out: Features,
    *,
    quantile: float = 0.01,
    memory: int = MEMORY,
) -> Novelty:
    """Look for copies of training images among generated ones, and for duplicates among these.

    Distances are those of the features: ``make_extractor("pixels")`` compares pixels.

    Args:
        generated: two images or more.
        training: the images that the model was trained on.
        held_out: ten or more real images that it never saw.
        quantile: the threshold is this quantile of the held-out images' distances; in (0, 1).
        memory: bytes for a block of distances.

    Raises:
        ValueError: there are too few images, or the features come from different extractors.

    >>> training, held_out = Features(torch.randn(500, 4)), Features(torch.randn(500, 4))
    >>> invented, copied = torch.randn(90, 4), training.values[:10]
    >>> result = novelty(Features(torch.cat([invented, copied])), training, held_out)
    >>> result.copies()[:3], result.held_out_rate.value
    ([(90, 0), (91, 1), (92, 2)], 0.01)
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie in (0, 1), got {quantile}")
    if len(held_out) < GROUPS:
        raise ValueError(f"{len(held_out)} held-out images are too few for a quantile: give {GROUPS} or more")
    found = nearest(generated, training, memory=memory)
    usual = nearest(held_out, training, memory=memory).distances[:, 0]
    twins = nearest_twins(generated, memory=memory)
    thresholds = _thresholds(usual, quantile)
    if thresholds[0] == 0:
        warnings.warn(
            f"at least {quantile:.0%} of the held-out images are training images too, so only exact copies "
            "are found: give other held-out images",
            stacklevel=2,
        )
    distances, twin_distances = found.distances[:, 0], twins.distances[:, 0]
    counts = (len(training), len(held_out))
    return Novelty(
        nearest=found.indices[:, 0],
        distances=distances,
        threshold=float(thresholds[0]),
        quantile=quantile,
        copy_rate=_rate(distances, thresholds, *counts),
        held_out_rate=_rate(usual, thresholds[:1], *counts),
        twins=twins.indices[:, 0],
        twin_distances=twin_distances,
        duplicate_rate=_rate(twin_distances, thresholds, *counts),
    )


def novelty_chapter(results: Mapping[str, Novelty], closest: Path | None = None) -> Chapter:
    """Return the chapter of a report.

    Args:
        results: by the name of the space, such as ``features`` and ``pixels``.
        closest: the PNG file of `draw_closest_pairs`.
    """
    rows = []
    for space, found in results.items():
        rates = (found.copy_rate, found.held_out_rate, found.duplicate_rate)
        rows.append([space, *(str(each.percent()) for each in rates)])
    quantile = next(iter(results.values())).quantile
    blocks: list[Block] = [
        "A generated image counts as a copy if it is closer to a training image than "
        f"{100 * (1 - quantile):g} % of the held-out real images are. Without copies, the rate is about that "
        "of the held-out images.",
        Table(
            f"Percent of images, {INTERVALS}",
            ["space", "copies", "held-out real images", "duplicates among the generated"],
            rows,
        ),
    ]
    if closest is not None:
        caption = "The closest pairs: generated images, each above its nearest training image."
        blocks.append(Picture.read(closest, caption))
    return Chapter("Is it new", blocks)


def _thresholds(distances: Tensor, quantile: float) -> Tensor:
    """Return the quantile of all distances, and of those without each tenth of them, (1 + GROUPS,)."""
    order = group_order(len(distances)).to(distances.device)
    shuffled = distances.double()[order]
    group = torch.arange(len(shuffled), device=distances.device) % GROUPS
    left = [shuffled, *(shuffled[group != number] for number in range(GROUPS))]
    return torch.stack([each.quantile(quantile) for each in left])


def _rate(distances: Tensor, thresholds: Tensor, n_training: int, n_held_out: int) -> Estimate:
    """Return the share of distances up to the first threshold; the other thresholds give its error."""
    near = (distances.double()[:, None] <= thresholds).double()
    value, without = float(near[:, 0].mean()), near[:, 1:].mean(dim=0)
    std = math.hypot(influence_std(near[:, 0]), jackknife_std(without))
    # If no image is near, nothing varies, and the numbers of images alone decide the interval
    telling = round(1 / (1 / len(distances) + 1 / n_held_out))
    interval = proportion_interval(value, std, telling)
    note = f"by the distances of {n_held_out:,} held-out images"
    return Estimate(value, *interval, std, len(distances), n_training, note)
