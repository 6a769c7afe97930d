"""The images themselves as features: for small images, and where no network is trusted."""

from __future__ import annotations

from torch import Tensor

from snowmelt.evaluation.features.extractor import CallableExtractor
from snowmelt.images import from_uint8

__all__ = ["pixels"]


def pixels() -> CallableExtractor:
    """Return the extractor whose features are the pixels in [-1, 1].

    >>> import torch
    >>> pixels()(torch.zeros(2, 1, 2, 2, dtype=torch.uint8))
    tensor([[-1., -1., -1., -1.],
            [-1., -1., -1., -1.]])
    """
    return CallableExtractor(_flat, "pixels")


def _flat(images: Tensor) -> Tensor:
    return from_uint8(images).flatten(1)
