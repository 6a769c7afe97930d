"""The handwritten digits that scikit-learn ships: 1,797 real 8x8 images, no download."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from snowmelt.errors import InputError
from snowmelt.images import Shape, resize

__all__ = ["DigitsDataset", "digits", "load_digits_split"]

HELD_OUT = 0.2


def load_digits_split(split: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 64) float32 in [-1, 1] and labels (N,) int64.

    Args:
        split: ``"train"`` or ``"test"``, four fifths and one fifth of each class, always the same; None for
            all 1,797.

    >>> [len(load_digits_split(split)[0]) for split in ("train", "test", None)]
    [1437, 360, 1797]
    """
    from sklearn.model_selection import train_test_split

    if split not in (None, "train", "test"):
        raise InputError(f"digits has the parts digits:train and digits:test, not digits:{split}")
    pixels, labels = _shipped()
    images, labels = (pixels / 8 - 1).astype(np.float32), labels.astype(np.int64)
    if split is None:
        return images, labels
    parts = train_test_split(images, labels, test_size=HELD_OUT, stratify=labels, random_state=0)
    return (parts[0], parts[2]) if split == "train" else (parts[1], parts[3])


@cache
def _shipped() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's images (1797, 64) in 0..16 and their labels, from a slow text file."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels, labels


class DigitsDataset(Dataset[tuple[Tensor, int]]):
    """The digits as one tensor, which gives whole batches at once.

    Attributes:
        images: (N, C, H, W) float32 in [-1, 1].
        labels: (N,) int64.
        classes: their names.
    """

    def __init__(self, split: str | None, shape: Shape) -> None:
        pixels, labels = load_digits_split(split)
        images = torch.from_numpy(pixels).view(-1, 1, 8, 8)
        self.images = resize(images, shape).clamp(-1, 1).contiguous()
        self.labels = torch.from_numpy(labels)
        self.classes = [str(digit) for digit in range(10)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.tensor(indices)
        return self.images[chosen], self.labels[chosen]


def digits(split: str | None, shape: Shape) -> DigitsDataset:
    """Return the digits, or their part ``train`` or ``test``, in a given shape."""
    return DigitsDataset(split, shape)
