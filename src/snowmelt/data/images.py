"""What a data set is: images that can be read by their numbers, their labels and the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from snowmelt.images import Shape

__all__ = ["Images", "InMemory"]


class Images(Protocol):
    """Images of one shape, which are read when they are asked for.

    Attributes:
        shape: what the images are turned into.
        labels: (N,) int64, the class of each; 0 where there are no classes.
        classes: their names; empty where there are none.
    """

    shape: Shape
    labels: Tensor
    classes: list[str]

    @property
    def place(self) -> str:
        """Where the images come from, in words that stay the same when the contents change."""

    def __len__(self) -> int: ...

    def read(self, numbers: Sequence[int]) -> Tensor:
        """Return the images of these numbers, (B, C, H, W), as uint8 or as float in [-1, 1].

        Raises:
            InputError: one of them cannot be read; the message names it.
        """

    def contents(self) -> object:
        """Return plain values that change when an image changes, without decoding any."""


class InMemory:
    """Images that are decoded already.

    Args:
        images: (N, C, H, W), uint8 or float in [-1, 1].
        labels, classes: as for `Images`.
    """

    place = "memory"

    def __init__(self, images: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
        channels, height, width = images.shape[1:]
        self.shape = Shape((height, width), channels)
        self.images, self.labels, self.classes = images, labels, list(classes)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, numbers: Sequence[int]) -> Tensor:
        return self.images.index_select(0, torch.as_tensor(numbers))

    def contents(self) -> object:
        return self.images
