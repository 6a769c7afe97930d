"""Noise that belongs to an image, not to a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["SeededNoise", "drawn_seeds", "image_seeds"]


class SeededNoise:
    """Draws a batch of standard normal noise in which sample i depends on seed i alone.

    Each sample has a generator of its own on the CPU, so that its noise is the same on every device, in
    every batch and in every order.

    Args:
        seeds: one integer a sample, 0 <= seed < 2**63.
        shape: of one sample.
        device: where the noise is wanted.

    >>> together = SeededNoise([1, 2], (3,))()
    >>> alone = SeededNoise([2], (3,))()
    >>> torch.equal(together[1], alone[0])
    True
    """

    def __init__(
        self, seeds: Sequence[int], shape: Sequence[int], device: str | torch.device = "cpu"
    ) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.shape = tuple(shape)
        self.device = torch.device(device)

    def __call__(self) -> Tensor:
        """Return the next noise, (len(seeds), *shape), float32."""
        pin = self.device.type == "cuda"  # pinned memory lets the copy run beside the network
        noise = torch.empty(len(self.generators), *self.shape, pin_memory=pin)
        for sample, generator in zip(noise, self.generators, strict=True):
            sample.normal_(generator=generator)
        return noise.to(self.device, non_blocking=pin)


def image_seeds(base_seed: int, num_images: int) -> list[int]:
    """Return one seed an image, all derived from one: image i's depends on (base_seed, i) alone.

    Neighbouring base seeds share no images, which ``base_seed + i`` would.

    >>> image_seeds(0, 5)[:3] == image_seeds(0, 3)
    True
    >>> set(image_seeds(0, 100)) & set(image_seeds(1, 100))
    set()
    """
    if base_seed < 0:
        raise ValueError(f"the base seed must be at least 0, got {base_seed}")
    states = (np.random.SeedSequence([base_seed, i]) for i in range(num_images))
    return [int(state.generate_state(1, np.uint64)[0] >> np.uint64(1)) for state in states]


def drawn_seeds(num_images: int) -> list[int]:
    """Return one seed an image, drawn from torch's global generator.

    >>> _ = torch.manual_seed(0)
    >>> first = drawn_seeds(2)
    >>> _ = torch.manual_seed(0)
    >>> drawn_seeds(2) == first
    True
    """
    seeds: list[int] = torch.randint(2**63 - 1, (num_images,)).tolist()
    return seeds
