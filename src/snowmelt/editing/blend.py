"""Noise between the noises of two seeds, standard normal all the way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from snowmelt.sampling.noise import SeededNoise

__all__ = ["BlendedNoise"]


class BlendedNoise:
    """A noise source on the quarter circle from one seed's noise to another's.

    At weight w it gives cos(pi w / 2) a + sin(pi w / 2) b: spherical interpolation (slerp) at the angle that
    independent noises have on average. As the squares sum to 1, the result is standard normal at every w, in
    any number of dimensions. Whatever a plan draws later is blended alike, so that stochastic plans change
    as smoothly as deterministic ones.

    Args:
        starts: one seed an image.
        ends: one seed an image; where it is the start's own, there is nothing to blend.
        weights: one an image, in [0, 1]; 0 is exactly the start's noise, 1 exactly the end's.
        shape: of one image.
        device: where the noise is wanted.

    >>> a, b = SeededNoise([1], (3,))(), SeededNoise([2], (3,))()
    >>> middle = BlendedNoise([1], [2], [0.5], (3,))()
    >>> torch.allclose(middle, (a + b) / math.sqrt(2))
    True
    """

    def __init__(
        self,
        starts: Sequence[int],
        ends: Sequence[int],
        weights: Sequence[float],
        shape: Sequence[int],
        device: str | torch.device = "cpu",
    ) -> None:
        self.starts, self.ends = SeededNoise(starts, shape, device), SeededNoise(ends, shape, device)
        angles = [
            0.0 if start == end else weight * math.pi / 2
            for start, end, weight in zip(starts, ends, weights, strict=True)
        ]
        ones = [1] * len(shape)
        # Two sines, as sin(0) is exactly 0 and cos(pi/2) is not
        self.of_start = torch.tensor([math.sin(math.pi / 2 - a) for a in angles], device=device).view(
            -1, *ones
        )
        self.of_end = torch.tensor([math.sin(a) for a in angles], device=device).view(-1, *ones)

    def __call__(self) -> Tensor:
        """Return the next noise, (len(starts), *shape), float32."""
        return self.of_start * self.starts() + self.of_end * self.ends()
