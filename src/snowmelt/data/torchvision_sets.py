"""Data sets that torchvision knows by name."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from torchvision import datasets

from snowmelt.data.errors import DataError
from snowmelt.data.transforms import prepare

__all__ = ["cifar10", "fashion_mnist", "mnist"]


def _open(name: str, split: str | None, image_size: int | tuple[int, int], in_channels: int) -> Any:
    """Return torchvision's data set `name`, from the disk if it is there, else downloaded.

    It is looked for in ``$SNOWMELT_DATA`` or ``data``.
    """
    if split not in (None, "train", "test"):
        raise DataError(f"{name} has the parts {name}:train and {name}:test, not {name}:{split}")
    root = Path(os.environ.get("SNOWMELT_DATA", "data"))
    make = partial(
        getattr(datasets, name),
        str(root),
        train=split != "test",
        transform=prepare(image_size, in_channels),
    )
    try:
        return make(download=False)
    except RuntimeError:
        pass  # it is not on the disk
    try:
        return make(download=True)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{name} is not in {root.resolve()} and could not be downloaded ({error}): connect to the "
            "network once, put torchvision's files there, or set SNOWMELT_DATA to the folder with them"
        ) from error


mnist = partial(_open, "MNIST")
fashion_mnist = partial(_open, "FashionMNIST")
cifar10 = partial(_open, "CIFAR10")
