"""Is it new: what generated images owe to single training images.

Each generated image has a nearest training image, at some distance. How near is too near is not for a number
to say in advance: real images that the model never saw have nearest training images too, and a generated one
that is nearer than nearly all of *those* is called a copy. So the copy rate is

    share of generated images with d <= q,   q = a low quantile of the held-out images' distances d

and of a model that has learned the distribution itself it is about that quantile (1 %, say), as it is of the
held-out images. By the same measure two generated images are duplicates of each other; their rate grows with
the number of images, so compare it between sets of one size.

**Interval.** Of the share, that of the generated images; of the quantile, the delete-group jackknife over the
held-out ones. Both are added, and Wilson's formula gives the interval. A quantile of 1 % asks for some
hundreds of held-out images.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from snowmelt.evaluation.metrics import Features
from snowmelt.evaluation.metrics.neighbours import MEMORY
from snowmelt.evaluation.nearest import nearest, nearest_twins
from snowmelt.evaluation.uncertainty import (
    GROUPS,
    Figure,
    group_order,
    influence_std,
    jackknife_std,
    proportion_interval,
)
from snowmelt.formats import ImageSource
from snowmelt.images import from_uint8, save_grid

__all__ = ["Novelty", "closest_pairs_picture", "novelty", "picked"]

BATCH = 256


@dataclass(frozen=True, eq=False)
class Novelty:
    """How new generated images are.

    Attributes:
        nearest: (N,) int64: the nearest training image of each generated one.
        distances: (N,): how far it is.
        threshold: distance up to which an image counts as a copy.
        quantile: of the held-out images' distances, which the threshold is.
        copy_rate: share of generated images that are copies of training images.
        held_out_rate: the same of held-out real images: about `quantile`.
        twins: (N,) int64: the nearest other generated image of each one.
        twin_distances: (N,): how far it is.
        duplicate_rate: share of generated images with a twin up to the threshold.
    """

    nearest: Tensor
    distances: Tensor
    threshold: float
    quantile: float
    copy_rate: Figure
    held_out_rate: Figure
    twins: Tensor
    twin_distances: Tensor
    duplicate_rate: Figure

    def copies(self) -> list[tuple[int, int]]:
        """Return (generated, training) of each copy, the closest first."""
        order = self.distances.argsort(stable=True)
        chosen = order[self.distances[order] <= self.threshold]
        return list(zip(chosen.tolist(), self.nearest[chosen].tolist(), strict=True))

    def duplicates(self) -> list[tuple[int, int]]:
        """Return the pairs of generated images that are each other's duplicates, the closest first.

        An image of many copies is in one pair for each, not in one for every two of them.
        """
        order = self.twin_distances.argsort(stable=True)
        chosen = order[self.twin_distances[order] <= self.threshold]
        pairs = zip(chosen.tolist(), self.twins[chosen].tolist(), strict=True)
        return list(dict.fromkeys((min(pair), max(pair)) for pair in pairs))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON knows."""
        return {
            "quantile": self.quantile,
            "threshold": self.threshold,
            "copy_rate": self.copy_rate.to_dict(),
            "held_out_rate": self.held_out_rate.to_dict(),
            "duplicate_rate": self.duplicate_rate.to_dict(),
            "copies": [list(pair) for pair in self.copies()],
            "duplicates": [list(pair) for pair in self.duplicates()],
            "nearest": self.nearest.tolist(),
            "distances": self.distances.tolist(),
        }


def novelty(
    generated: Features,
    training: Features,
    held_out: Features,
    *,
    quantile: float = 0.01,
    memory: int = MEMORY,
) -> Novelty:
    """Look for copies of training images among generated ones, and for duplicates among these.

    Features of any extractor make the space in which nearness is meant; `snowmelt.evaluation.features.pixels`
    makes that of the pixels.

    Args:
        generated: two images or more.
        training: the images that the model was trained on.
        held_out: real ones that it never saw, ten or more.
        quantile: of the held-out images' distances, below which a distance means a copy, in (0, 1).
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
            f"at least {quantile:.0%} of the held-out images are training images too: give others, or "
            "only exact copies are found",
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


def closest_pairs_picture(
    result: Novelty,
    generated: ImageSource,
    training: ImageSource,
    path: str | PathLike[str],
    *,
    count: int = 10,
    nrow: int = 10,
) -> None:
    """Write the generated images that are closest to a training image as one picture, each above that image.

    Args:
        result: of these two sets.
        generated, training: the images, of one shape.
        path: the PNG file.
        count: pairs, closest first; all if there are fewer.
        nrow: pairs in a row.

    Raises:
        ValueError: the images are of different shapes.
    """
    chosen = result.distances.argsort(stable=True)[:count]
    partners = result.nearest[chosen]
    above, below = picked(generated, chosen.tolist()), picked(training, partners.tolist())
    if above.shape != below.shape:
        raise ValueError(
            f"generated images {tuple(above.shape[1:])} and training images {tuple(below.shape[1:])} do not "
            "fit into one picture: open both with the same image_size and channels"
        )
    distances = result.distances[chosen].tolist()
    nrow = min(nrow, len(chosen))
    # Rows of pictures take turns: one of generated images, one of their neighbours
    blank = -len(chosen) % nrow
    pairs = torch.stack([above, below])
    pairs = torch.cat([pairs, pairs.new_full((2, blank, *above.shape[1:]), 255)], dim=1)
    images = pairs.unflatten(1, (-1, nrow)).transpose(0, 1).flatten(0, 2)
    tops = [f"made {index}" for index in chosen.tolist()] + [""] * blank
    bottoms = [f"real {i}: {d:.3g}" for i, d in zip(partners.tolist(), distances, strict=True)] + [""] * blank
    captions = [
        text
        for start in range(0, len(tops), nrow)
        for row in (tops, bottoms)
        for text in row[start : start + nrow]
    ]
    save_grid(from_uint8(images), path, nrow=nrow, captions=captions)


def picked(source: ImageSource, indices: Sequence[int]) -> Tensor:
    """Return some of a source's images, uint8 (len(indices), C, H, W), in the order asked for.

    The source is read once from its beginning, and only these are kept.

    >>> from snowmelt.formats import open_images
    >>> picked(open_images("digits:test"), [300, 2]).shape
    torch.Size([2, 1, 8, 8])
    """
    wanted = set(indices)
    last = max(wanted)
    kept: dict[int, Tensor] = {}
    for number, batch in enumerate(source.batches(BATCH)):
        start = number * BATCH
        kept |= {index: batch[index - start] for index in wanted if start <= index < start + len(batch)}
        if start + len(batch) > last:
            break
    return torch.stack([kept[index] for index in indices])


def _thresholds(distances: Tensor, quantile: float) -> Tensor:
    """Return the quantile of all distances, and of those without each tenth of them, (1 + GROUPS,)."""
    order = group_order(len(distances)).to(distances.device)
    shuffled = distances.double()[order]
    group = torch.arange(len(shuffled), device=distances.device) % GROUPS
    left = [shuffled, *(shuffled[group != number] for number in range(GROUPS))]
    return torch.stack([each.quantile(quantile) for each in left])


def _rate(distances: Tensor, thresholds: Tensor, n_training: int, n_held_out: int) -> Figure:
    """Return the share of distances up to the first threshold; the others say how sure that one is."""
    near = (distances.double()[:, None] <= thresholds).double()
    value, without = float(near[:, 0].mean()), near[:, 1:].mean(dim=0)
    std = math.hypot(influence_std(near[:, 0]), jackknife_std(without) if len(without) else 0.0)
    # Where nothing is near, nothing varies; what is left is how many images could have told
    telling = round(1 / (1 / len(distances) + 1 / n_held_out))
    interval = proportion_interval(value, std, telling)
    note = f"by the distances of {n_held_out:,} held-out images"
    return Figure(value, *interval, std, len(distances), n_training, note)
