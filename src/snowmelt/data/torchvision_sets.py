"""Data sets that torchvision knows by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchvision import datasets

from snowmelt.errors import InputError
from snowmelt.images import Shape, resize

__all__ = ["cifar10", "fashion_mnist", "mnist"]


class Resized:
    """Images in memory in a size of their own, as `snowmelt.data.images.Images` says: resized when read."""

    def __init__(
        self, place: str, stored: Tensor, labels: Tensor, classes: Sequence[str], shape: Shape
    ) -> None:
        self.place, self.shape = place, shape
        self.stored, self.labels, self.classes = stored, labels, list(classes)

    def __len__(self) -> int:
        return len(self.stored)

    def read(self, numbers: Sequence[int]) -> Tensor:
        chosen = self.stored[torch.as_tensor(numbers)]
        return resize(resize(chosen, Shape(channels=self.shape.channels)), self.shape)  # as files are

    def contents(self) -> object:
        return self.stored


def _open(name: str, split: str | None, shape: Shape) -> Resized:
    """Return torchvision's data set `name` in ``$SNOWMELT_DATA`` or ``data``; download it if it is missing.

    Without a `split` it is the whole set, both parts.
    """
    if split not in (None, "train", "test"):
        raise InputError(f"{name} has the parts {name}:train and {name}:test, not {name}:{split}")
    root = Path(os.environ.get("SNOWMELT_DATA", "data"))
    make = partial(getattr(datasets, name), str(root))
    trains = {"train": [True], "test": [False], None: [True, False]}[split]
    try:
        parts = [make(train=train, download=True) for train in trains]  # downloads only what is not there
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{name} is not in {root.resolve()} and could not be downloaded ({error}): connect to the "
            "network once, put torchvision's files there, or set SNOWMELT_DATA to the folder with them"
        ) from error
    images = torch.cat([torch.as_tensor(part.data) for part in parts])
    images = images.unsqueeze(1) if images.ndim == 3 else images.movedim(-1, 1)  # gray, colour
    labels = torch.cat([torch.as_tensor(part.targets) for part in parts])
    return Resized(f"{name}:{split}", images, labels, parts[0].classes, shape)


mnist = partial(_open, "MNIST")
fashion_mnist = partial(_open, "FashionMNIST")
cifar10 = partial(_open, "CIFAR10")
