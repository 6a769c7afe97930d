"""Nearest neighbours among many images, in bounded memory.

A set of features is divided into ten random groups, and each group into blocks of rows. Distances exist one
pair of blocks at a time. For each image the nearest neighbours *in each group* are kept. They give its k-th
neighbour among all images, and also its k-th neighbour among all but one group, which the delete-group
jackknife needs.

Distances are squared. With float32 features they are exact to about 1e-6 of the features' own squared length.
A tolerance of `TIE` makes an image at exactly the radius count as inside, for every block size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from snowmelt.evaluation.features import Features
from snowmelt.evaluation.features.moments import check_same_dim
from snowmelt.evaluation.uncertainty import GROUPS, group_order
from snowmelt.text import counted

__all__ = ["MEMORY", "Balls", "balls", "block_rows", "origin", "radii", "squared_distances"]

MEMORY = 256 * 2**20  # bytes for one pair of blocks: rows of both sets and their distances
TIE = 1e-6


@dataclass(frozen=True)
class Balls:
    """Which points lie in which balls. A ball reaches from a centre to its k-th neighbour among the centres.

    Row 0 of the first two arrays uses all centres. Row g + 1 leaves out group g, so its radii are larger.

    Attributes:
        counts: (1 + G, P) int32, the number of balls that a point lies in.
        filled: (1 + G, C) bool, whether a ball holds a point; False for a centre that is left out.
        filled_by: (G, C) bool, whether a ball holds a point of the points' group g; radii among all centres.
        centre_groups: (C,) int64.
        groups: G.
    """

    counts: Tensor
    filled: Tensor
    filled_by: Tensor
    centre_groups: Tensor

    @property
    def groups(self) -> int:
        """G."""
        return len(self.filled_by)


def radii(features: Features, k: int, *, memory: int = MEMORY) -> Tensor:
    """Return the squared distance of each image to its k-th nearest other one, (1 + G, N).

    Row 0 is among all images, row g + 1 among the images outside group g. The result is computed once for
    each k and kept with the features.

    Args:
        features: more than k images; for a jackknife, more than k in all groups but one.
        k: >= 1.
        memory: bytes that a pair of blocks may take.

    Raises:
        ValueError: there are too few images for k.
    """
    if k < 1 or len(features) - -(-len(features) // GROUPS) <= k:
        least = next(n for n in range(k + 1, 2 * k + 4) if n - -(-n // GROUPS) > k) if k >= 1 else 1
        raise ValueError(
            f"got {counted(len(features), 'image')}, too few for their {k}-th neighbours: "
            f"give at least {least}, or another k"
        )
    return features.derived(f"radii-{k}", lambda: _radii(features.values, k, memory))


def balls(points: Features, centres: Features, k: int, *, memory: int = MEMORY) -> Balls:
    """Find the points that lie in the centres' balls.

    Args:
        points: the images that are looked for in the balls.
        centres: the images that the balls are drawn around.
        k: the neighbour that a ball reaches to, >= 1.
        memory: bytes that a pair of blocks may take.

    Raises:
        ValueError: there are too few centres, or the features come from different extractors.
    """
    check_same_dim(points.dim, centres.dim)
    reach = radii(centres, k, memory=memory)
    x, y = centres.values, points.values
    shift, tie = origin(x)
    reach = reach + tie
    widest = reach.max(dim=0).values
    centre_group, point_group = _group_of(x), _group_of(y)
    counts = torch.zeros(1 + GROUPS, len(y), dtype=torch.int32, device=x.device)
    filled = torch.zeros(1 + GROUPS, len(x), dtype=torch.bool, device=x.device)
    filled_by = torch.zeros(GROUPS, len(x), dtype=torch.bool, device=x.device)
    side = block_rows(x, memory)
    point_blocks = list(torch.arange(len(y), device=y.device).split(side))
    for columns in torch.arange(len(x), device=x.device).split(side):
        block = x[columns] - shift
        for rows in point_blocks:
            near = squared_distances(y[rows] - shift, block)
            # Few pairs are within reach; what follows is for those alone
            row, column = (near <= widest[columns]).nonzero(as_tuple=True)
            distance, row, column = near[row, column], rows[row], columns[column]
            inside = distance <= reach[:, column]
            inside[1:] &= centre_group[column] != torch.arange(GROUPS, device=x.device)[:, None]
            counts.index_add_(1, row, inside.int())
            for left_out, within in enumerate(inside):
                filled[left_out, column[within]] = True
            filled_by[point_group[row[inside[0]]], column[inside[0]]] = True
    return Balls(counts, filled, filled_by, centre_group)


def _radii(x: Tensor, k: int, memory: int) -> Tensor:
    shift, _ = origin(x)
    group = _group_of(x)
    nearest = torch.full((len(x), GROUPS, k), torch.inf, dtype=x.dtype, device=x.device)
    blocks = list(_blocks(group, block_rows(x, memory)))
    for (rows, row_group), (columns, column_group) in combinations_with_replacement(blocks, 2):
        first = x[rows] - shift
        if rows is columns:
            distances = squared_distances(first, first).fill_diagonal_(torch.inf)
        else:
            distances = squared_distances(first, x[columns] - shift)
            _keep_nearest(nearest, row_group, columns, distances.T)
        _keep_nearest(nearest, column_group, rows, distances)
    return torch.stack([_kth(nearest, k), *(_kth(_without(nearest, group), k) for group in range(GROUPS))])


def _without(nearest: Tensor, group: int) -> Tensor:
    others = nearest.clone()
    others[:, group] = torch.inf
    return others


def _kth(nearest: Tensor, k: int) -> Tensor:
    """Return the k-th smallest of each image's distances (N, G, k)."""
    return nearest.flatten(1).topk(k, largest=False).values[:, -1]


def _keep_nearest(nearest: Tensor, group: int, of: Tensor, distances: Tensor) -> None:
    """Keep the nearest of the known neighbours of images `of` in a group and of those at new `distances`."""
    k = nearest.shape[-1]
    found = distances.contiguous().topk(min(k, distances.shape[1]), largest=False).values
    met = torch.cat([nearest[of, group], found], dim=1)
    nearest[of, group] = met.topk(k, largest=False).values


def _blocks(group: Tensor, side: int) -> Iterator[tuple[Tensor, int]]:
    """Yield the rows of each block, with its group."""
    for number in range(GROUPS):
        members = (group == number).nonzero().flatten()
        yield from ((rows, number) for rows in members.split(side) if len(rows))


def _group_of(x: Tensor) -> Tensor:
    """Return the group of each row, (N,)."""
    group = torch.empty(len(x), dtype=torch.int64)
    group[group_order(len(x))] = torch.arange(len(x)) % GROUPS
    return group.to(x.device)


def origin(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (D,), from which rounding is least, and the tolerance for ties in squared distance."""
    mean = x.mean(dim=0)
    spread = (x.square().mean(dim=0, dtype=torch.float64) - mean.double().square()).clamp(min=0).sum()
    return mean, (TIE * spread).to(x.dtype)


def block_rows(x: Tensor, memory: int) -> int:
    """Return the side b of a block for 4 b^2 + 3 b D numbers: distances, masks and two sets of rows."""
    numbers, width = memory / x.element_size(), 3 * x.shape[1]
    return max(1, int(((width**2 + 16 * numbers) ** 0.5 - width) / 8))


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """Return |x_i - y_j|^2 (N, M) of rows (N, D) and (M, D)."""
    lengths = second.square().sum(dim=1)
    distances = torch.addmm(lengths, first, second.T, alpha=-2)
    return distances.add_(first.square().sum(dim=1, keepdim=True)).clamp_(min=0)
