"""Data sets that torchvision knows by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from snowmelt.digest import content_digest
from snowmelt.errors import InputError, optional
from snowmelt.formats.ahead import ahead
from snowmelt.formats.source import ImageSource
from snowmelt.images import Shape, resize

__all__ = ["cifar10", "fashion_mnist", "mnist"]


class StoredSource(ImageSource):
    """Images in memory in a size of their own, which are resized when they are read.

    Args:
        stored: uint8 (N, C, H, W).
        labels, class_names, name: as for `ImageSource`.
        shape: what the images are turned into.
    """

    def __init__(
        self, stored: Tensor, labels: Tensor, class_names: Sequence[str], name: str, shape: Shape
    ) -> None:
        super().__init__(name, len(stored), labels, class_names)
        self.stored, self.shape = stored, shape

    def batches(self, batch_size: int, num_workers: int = 0) -> Iterator[Tensor]:
        """Yield all images in order, uint8 (B, C, H, W)."""
        return ahead(self._resized, self.stored.split(batch_size), num_workers)

    def take(self, indices: Sequence[int]) -> Tensor:
        """Return some of the images, in the order of `indices`."""
        return self._resized(self.stored[list(indices)])

    def originals(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Yield some of the images as they are stored."""
        yield from self.stored[list(indices)]

    def digests(self) -> list[str]:
        """Return the SHA-256 of each image as it is stored."""
        return [sha256(one.contiguous().numpy().data).hexdigest() for one in self.stored]

    def stamp(self) -> object:
        """Return a digest of all that is stored."""
        return content_digest(self.stored)

    def _keep(self, indices: Sequence[int]) -> None:
        self.stored = self.stored[list(indices)]

    def _resized(self, images: Tensor) -> Tensor:
        # First gray or in colour, as files are read
        return resize(resize(images, Shape(channels=self.shape.channels)), self.shape)


def _open(name: str, split: str | None, shape: Shape) -> StoredSource:
    """Return torchvision's data set `name` in ``$SNOWMELT_DATA`` or ``data``; download it if it is missing.

    Without a `split` it is the whole set, both parts.
    """
    datasets = optional("torchvision.datasets", f"the data set {name}", "train")
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
    return StoredSource(images, labels, parts[0].classes, f"{name}:{split}" if split else name, shape)


mnist = partial(_open, "MNIST")
fashion_mnist = partial(_open, "FashionMNIST")
cifar10 = partial(_open, "CIFAR10")
