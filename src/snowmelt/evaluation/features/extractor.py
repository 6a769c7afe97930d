"""Extractors turn images into features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.images import from_uint8

__all__ = ["CallableExtractor", "Extractor", "in_colour", "pixels", "read_weights", "resized"]


@runtime_checkable
class Extractor(Protocol):
    """A function of images whose features the metrics compare.

    An extractor that is also a classifier has a method ``probabilities(features)``. It returns class
    probabilities (B, K) from features (B, D); the inception score needs them.

    Attributes:
        name: identifies the function and its weights: two extractors with one name give the same features.
            An empty name keeps the features out of the cache.
        dim: D, or None until it is known.
    """

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int | None: ...

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, D), float32, of images uint8 (B, C, H, W), C = 1 or 3."""


class CallableExtractor:
    """Any function as an extractor.

    Args:
        function: uint8 (B, C, H, W) to floating (B, ...), which is flattened.
        name: identifies the function and all that its result depends on; without a name nothing is cached.

    >>> import torch
    >>> CallableExtractor(lambda images: images.float().mean(dim=(2, 3)))(torch.ones(5, 3, 8, 8).byte()).shape
    torch.Size([5, 3])
    """

    def __init__(self, function: Callable[[Tensor], Tensor], name: str = "") -> None:
        self.function = function
        self.name = name
        self.dim: int | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, D), float32."""
        return self.function(images).flatten(1).float()


def pixels() -> CallableExtractor:
    """Return the extractor whose features are the pixels in [-1, 1].

    >>> import torch
    >>> pixels()(torch.zeros(2, 1, 2, 2, dtype=torch.uint8))
    tensor([[-1., -1., -1., -1.],
            [-1., -1., -1., -1.]])
    """
    return CallableExtractor(from_uint8, "pixels")


def in_colour(images: Tensor) -> Tensor:
    """Return images (B, 1 or 3, H, W) with three channels; gray stays gray.

    >>> import torch
    >>> in_colour(torch.zeros(2, 1, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def resized(images: Tensor, size: Sequence[int], device: torch.device) -> Tensor:
    """Return uint8 images (B, 3, *size) on a device, in colour, resized bicubic and antialiased.

    >>> resized(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), [8, 8], torch.device("cpu")).shape
    torch.Size([2, 3, 8, 8])
    """
    from torchvision.transforms.v2 import functional  # takes as long to load as torch

    bicubic = functional.InterpolationMode.BICUBIC
    result: Tensor = functional.resize(
        in_colour(images).to(device), list(size), interpolation=bicubic, antialias=True
    )
    return result


def read_weights(path: str | Path) -> Any:
    """Return what a file of weights holds, and run no code of it.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError) as error:
        raise InputError(f"{path} cannot be read as weights of the extractor: {str(error)[:200]}") from error
