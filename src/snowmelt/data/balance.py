"""Classes of unequal size: how often an image is shown in an epoch, and how much it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from snowmelt.errors import InputError

__all__ = ["ORDERS", "WEIGHTS", "Balance", "class_weights"]


def inverse(counts: Tensor, beta: float) -> Tensor:
    """Return 1 / n: all classes count alike."""
    return 1 / counts


def effective(counts: Tensor, beta: float) -> Tensor:
    """Return (1 - beta) / (1 - beta^n) (Cui et al. 2019, arXiv 1901.05555, eq. 2): 1 / n while n is small.

    From about n = 1 / (1 - beta) on, more images of a class are taken to show nothing new.
    """
    return (1 - beta) / (1 - beta**counts)


# The weight of one image of a class of n images, in float64
WEIGHTS: dict[str, Callable[[Tensor, float], Tensor]] = {"inverse": inverse, "effective": effective}


def class_weights(counts: Tensor, name: str, beta: float) -> Tensor:
    """Return how much an image of each class counts, (classes,) float64. The mean over all images is 1.

    Args:
        counts: images of each class; classes without images get 0.
        name: a key of `WEIGHTS`.
        beta: of ``effective``, in [0, 1).

    >>> class_weights(torch.tensor([30, 10]), "inverse", 0.0)
    tensor([0.6667, 2.0000], dtype=torch.float64)
    """
    counts = counts.double()
    weights = torch.where(counts > 0, WEIGHTS[name](counts.clamp(min=1), beta), 0.0)
    return weights * counts.sum() / (weights * counts).sum()


@dataclass(frozen=True)
class Balance:
    """How often the images of each class are shown, and how much each counts in the loss.

    Args:
        sampling: a key of `ORDERS`.
        weights: a key of `WEIGHTS`, or ``none``.
        beta: of ``effective``, in [0, 1).

    Raises:
        InputError: `sampling` or `weights` is unknown, both are stated, or `beta` is out of range.

    >>> labels = torch.tensor([0, 0, 0, 1])
    >>> Balance("up").order(labels, Generator().manual_seed(0)).sort().values
    tensor([0, 1, 2, 3, 3, 3])
    >>> Balance("up").length(labels), Balance("down").length(labels), Balance("inverse").length(labels)
    (6, 2, 4)
    """

    sampling: str = "none"
    weights: str = "none"
    beta: float = 0.999

    def __post_init__(self) -> None:
        """Check all of it."""
        for name, known in (("sampling", [*ORDERS]), ("weights", ["none", *WEIGHTS])):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if "none" not in (self.sampling, self.weights):
            raise InputError(
                f"data.balance has sampling {self.sampling} and weights {self.weights}, which together "
                "balance twice: set one of them to none"
            )
        if not 0 <= self.beta < 1:
            raise InputError(f"beta must lie in [0, 1), got {self.beta}")

    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        """Return the numbers of the images of an epoch, in random order, (length,) int64."""
        return ORDERS[self.sampling](self, labels, generator)

    def of_classes(self, labels: Tensor) -> Tensor | None:
        """Return how much an image of each class counts in the loss, (classes,) float32; None for alike."""
        if self.weights == "none":
            return None
        return class_weights(labels.bincount(), self.weights, self.beta).float()

    def length(self, labels: Tensor) -> int:
        """Return how many images an epoch shows."""
        counts = labels.bincount()
        counts = counts[counts > 0]
        each = {"up": counts.max(), "down": counts.min()}.get(self.sampling)
        return len(labels) if each is None else len(counts) * int(each)


def _all(balance: Balance, labels: Tensor, generator: Generator) -> Tensor:
    return torch.randperm(len(labels), generator=generator)


def _weighted(balance: Balance, labels: Tensor, generator: Generator) -> Tensor:
    """Draw with replacement."""
    weights = class_weights(labels.bincount(), balance.sampling, balance.beta)[labels]
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)


def _alike(balance: Balance, labels: Tensor, generator: Generator) -> Tensor:
    """Show equally many images of each class: all of them equally often, as nearly as possible."""
    classes = labels.unique()
    each = balance.length(labels) // len(classes)
    chosen = []
    for label in classes:
        own = (labels == label).nonzero().flatten()
        shuffled = own[torch.randperm(len(own), generator=generator)]
        chosen.append(shuffled.repeat(-(-each // len(own)))[:each])
    order = torch.cat(chosen)
    return order[torch.randperm(len(order), generator=generator)]


# What an epoch shows: all images; as many draws, weighted; equally many of each class, as many as the largest
# or the smallest one has
ORDERS: dict[str, Callable[[Balance, Tensor, Generator], Tensor]] = {
    "none": _all,
    **dict.fromkeys(WEIGHTS, _weighted),
    "up": _alike,
    "down": _alike,
}
