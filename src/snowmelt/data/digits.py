"""The handwritten digits that scikit-learn ships: 1,797 real 8x8 images, no download."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from snowmelt.data.images import InMemory
from snowmelt.errors import InputError
from snowmelt.images import Shape, resize

__all__ = ["digits", "load_digits_split"]

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


def digits(split: str | None, shape: Shape) -> InMemory:
    """Return the digits, or their part ``train`` or ``test``, in a given shape."""
    pixels, labels = load_digits_split(split)
    images = resize(torch.from_numpy(pixels).view(-1, 1, 8, 8), shape).clamp(-1, 1)
    return InMemory(images.contiguous(), torch.from_numpy(labels), [str(digit) for digit in range(10)])
