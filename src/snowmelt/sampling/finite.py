"""Samples that are no numbers never leave a sampler without a word."""

from __future__ import annotations

from torch import Tensor

from snowmelt.errors import InputError

__all__ = ["finite"]


def finite(samples: Tensor) -> Tensor:
    """Return the samples, all of them finite.

    Raises:
        InputError: there is NaN or infinity in them.

    >>> import torch
    >>> finite(torch.ones(1) / 0)
    Traceback (most recent call last):
    snowmelt.errors.InputError: the samples hold NaN or infinity, because the model that made them has ...
    """
    if not samples.isfinite().all():
        raise InputError(
            "the samples hold NaN or infinity, because the model that made them has diverged: take an "
            "earlier checkpoint, or another plan"
        )
    return samples
