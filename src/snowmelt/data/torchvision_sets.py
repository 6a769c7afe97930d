"""Data sets that torchvision knows by name."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset
from torchvision import datasets
from torchvision.transforms import Compose

from snowmelt.data.transforms import prepare
from snowmelt.errors import InputError
from snowmelt.images import Shape, from_picture

__all__ = ["cifar10", "fashion_mnist", "mnist"]


def _open(name: str, split: str | None, shape: Shape) -> Any:
    """Return torchvision's data set `name` in ``$SNOWMELT_DATA`` or ``data``; download it if it is missing.

    Without a `split` it is the whole set, both parts.
    """
    if split not in (None, "train", "test"):
        raise InputError(f"{name} has the parts {name}:train and {name}:test, not {name}:{split}")
    root = Path(os.environ.get("SNOWMELT_DATA", "data"))
    steps = [partial(from_picture, channels=shape.channels), prepare(shape)]
    make = partial(getattr(datasets, name), str(root), transform=Compose(steps))
    trains = {"train": [True], "test": [False], None: [True, False]}[split]
    try:
        parts = [make(train=train, download=True) for train in trains]  # downloads only what is not there
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{name} is not in {root.resolve()} and could not be downloaded ({error}): connect to the "
            "network once, put torchvision's files there, or set SNOWMELT_DATA to the folder with them"
        ) from error
    whole: Any = ConcatDataset(parts)
    whole.classes = parts[0].classes
    return whole


mnist = partial(_open, "MNIST")
fashion_mnist = partial(_open, "FashionMNIST")
cifar10 = partial(_open, "CIFAR10")
