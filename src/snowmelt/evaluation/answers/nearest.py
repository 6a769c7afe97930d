"""The nearest images of another set, in bounded memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snowmelt.evaluation.features import Features
from snowmelt.evaluation.features.moments import check_same_dim
from snowmelt.evaluation.metrics.neighbours import MEMORY, block_rows, origin, squared_distances
from snowmelt.text import counted

__all__ = ["Nearest", "nearest", "nearest_twins"]


class Nearest(NamedTuple):
    """The k nearest images of each image, nearest first.

    Attributes:
        distances: (N, k), not squared; exactly 0 for two equal images.
        indices: (N, k) int64, into the set that was searched.
    """

    distances: Tensor
    indices: Tensor


def nearest(images: Features, among: Features, k: int = 1, *, memory: int = MEMORY) -> Nearest:
    """Find the k nearest images of each image in another set.

    Args:
        images: the images whose neighbours are wanted.
        among: the set to search; k images or more.
        k: >= 1.
        memory: bytes that a pair of blocks may take.

    Raises:
        ValueError: there are too few images, or the features come from different extractors.

    >>> line = Features(torch.tensor([[0.0], [1.0], [5.0]]))
    >>> nearest(Features(torch.tensor([[4.0], [1.0]])), line)
    Nearest(distances=tensor([[1.],
            [0.]]), indices=tensor([[2],
            [1]]))
    """
    check_same_dim(images.dim, among.dim)
    if k < 1 or len(among) < k:
        raise ValueError(
            f"the {k} nearest of {counted(len(among), 'image')} do not exist: give more, or another k"
        )
    return _nearest(images.values, among.values, k, memory, itself=True)


def nearest_twins(images: Features, *, memory: int = MEMORY) -> Nearest:
    """Find the nearest other image of each image in the same set, (N, 1).

    Args:
        images: two or more.
        memory: bytes that a pair of blocks may take.

    Raises:
        ValueError: there are fewer than two images.

    >>> nearest_twins(Features(torch.tensor([[0.0], [1.0], [5.0]]))).indices.flatten()
    tensor([1, 0, 1])
    """
    if len(images) < 2:
        raise ValueError(f"a nearest other image needs at least 2 images, got {len(images)}")
    return _nearest(images.values, images.values, 1, memory, itself=False)


def _nearest(x: Tensor, among: Tensor, k: int, memory: int, itself: bool) -> Nearest:
    shift, _ = origin(among)
    side = block_rows(among, memory)
    found = [
        _nearest_of_block(int(rows[0]), x[rows], among, k, shift, side, itself)
        for rows in torch.arange(len(x), device=x.device).split(side)
    ]
    indices = torch.cat(found) if found else torch.empty(0, k, dtype=torch.int64, device=x.device)
    # Once more without the cancellation in |x|^2 - 2 x.y + |y|^2, so that equal images are at 0
    distances = torch.stack([_lengths(x, among[column], side) for column in indices.T], dim=1)
    order = distances.argsort(dim=1, stable=True)
    return Nearest(distances.gather(1, order), indices.gather(1, order))


def _nearest_of_block(
    start: int, block: Tensor, among: Tensor, k: int, shift: Tensor, side: int, itself: bool
) -> Tensor:
    """Return the indices (B, k) of the nearest images to a block of rows (B, D), which begins at `start`."""
    block = block - shift
    best = torch.full((len(block), k), torch.inf, dtype=among.dtype, device=among.device)
    indices = torch.zeros(len(block), k, dtype=torch.int64, device=among.device)
    for first in range(0, len(among), side):
        distances = squared_distances(block, among[first : first + side] - shift)
        if not itself and first == start:
            distances.fill_diagonal_(torch.inf)
        if k == 1:  # much faster than topk
            found, columns = distances.min(dim=1, keepdim=True)
        else:
            found, columns = distances.topk(min(k, distances.shape[1]), largest=False)
        best, chosen = torch.cat([best, found], dim=1).topk(k, largest=False)
        indices = torch.cat([indices, first + columns], dim=1).gather(1, chosen)
    return indices


def _lengths(x: Tensor, y: Tensor, side: int) -> Tensor:
    """Return |x_i - y_i|, (N,)."""
    pairs = zip(x.split(side), y.split(side), strict=True)
    return torch.cat([torch.linalg.vector_norm(a - b, dim=1) for a, b in pairs])
