"""The handwritten digits that scikit-learn ships: 1,797 real 8x8 images, no download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from snowmelt.errors import InputError, optional
from snowmelt.formats.source import TensorSource
from snowmelt.images import Shape, resize

__all__ = ["digits", "load_digits_split"]

HELD_OUT = 0.2
NATIVE = Shape((8, 8), 1)


class Digits(TensorSource):
    """The digits, whose 17 gray levels are not rounded to those of bytes where training reads them."""

    def __init__(self, stored: Tensor, labels: Tensor, name: str, shape: Shape) -> None:
        images = resize(stored, shape).clamp(-1, 1).contiguous()
        super().__init__(images, labels, [str(digit) for digit in range(10)], name)
        self.stored, self.unrounded = stored, images

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """Return some of the images as floats in [-1, 1]."""
        return self.unrounded[list(indices)]

    def digests(self) -> list[str]:
        """Return the SHA-256 of each image in its own size."""
        return [sha256(one.numpy().data).hexdigest() for one in self.stored]

    def _keep(self, indices: Sequence[int]) -> None:
        super()._keep(indices)
        self.stored, self.unrounded = self.stored[list(indices)], self.unrounded[list(indices)]


def load_digits_split(split: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 64) float32 in [-1, 1] and labels (N,) int64.

    Args:
        split: ``"train"`` or ``"test"``, four fifths and one fifth of each class, always the same; None for
            all 1,797.

    >>> [len(load_digits_split(split)[0]) for split in ("train", "test", None)]
    [1437, 360, 1797]
    """
    model_selection = optional("sklearn.model_selection", "the data set digits", "train")
    if split not in (None, "train", "test"):
        raise InputError(f"digits has the parts digits:train and digits:test, not digits:{split}")
    pixels, labels = _shipped()
    images, labels = (pixels / 8 - 1).astype(np.float32), labels.astype(np.int64)
    if split is None:
        return images, labels
    parts = model_selection.train_test_split(
        images, labels, test_size=HELD_OUT, stratify=labels, random_state=0
    )
    return (parts[0], parts[2]) if split == "train" else (parts[1], parts[3])


@cache
def _shipped() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's images (1797, 64) in 0..16 and their labels, from a slow text file."""
    sets = optional("sklearn.datasets", "the data set digits", "train")
    pixels, labels = sets.load_digits(return_X_y=True)
    return pixels, labels


def digits(split: str | None, shape: Shape) -> Digits:
    """Return the digits, or their part ``train`` or ``test``, in a given shape."""
    pixels, labels = load_digits_split(split)
    wanted = Shape(shape.size or NATIVE.size, shape.channels or NATIVE.channels)
    stored, name = torch.from_numpy(pixels).view(-1, 1, 8, 8), f"digits:{split}" if split else "digits"
    return Digits(stored, torch.from_numpy(labels), name, wanted)
