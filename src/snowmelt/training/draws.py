"""What chance decides in a step: noise levels, noise, and which labels are dropped.

All of it follows from the seed, the epoch and the place of the step in the epoch. It is drawn for the whole
step, and each process and each of its batches takes the part of its own images. So it does not matter how
many of them share a step, and nothing is remembered between two steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snowmelt.data.order import derived_seed
from snowmelt.models import DiffusionModel
from snowmelt.training.times import Times

__all__ = ["Draws", "draw"]


@dataclass(frozen=True)
class Draws:
    """What is drawn for some images.

    Attributes:
        times: (B,) of the noise levels, float64 on the CPU.
        dropped: (B,) booleans on the CPU: whose labels are dropped.
        seeds: one an image, of its noise.
    """

    times: Tensor
    dropped: Tensor
    seeds: Sequence[int]

    def part(self, start: int, stop: int) -> Draws:
        """Return those of the images from `start` to before `stop`."""
        return Draws(self.times[start:stop], self.dropped[start:stop], self.seeds[start:stop])

    def noise(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return standard normal noise (B, *shape), float32, that of each image from its seed alone.

        It is drawn on the device, so that the host only asks for it and does not wait: another kind of device
        draws other noise.
        """
        noise = torch.empty(len(self.seeds), *shape, device=device)
        generator = torch.Generator(device)
        for sample, seed in zip(noise, self.seeds, strict=True):
            sample.normal_(generator=generator.manual_seed(seed))
        return noise


def draw(model: DiffusionModel, times: Times, num: int, *seed: int) -> Draws:
    """Draw for the images of a step.

    Args:
        model: what learns.
        times: how its noise levels are drawn.
        num: images of the step, in all processes together.
        seed: numbers that all draws follow from.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(8, 1, 32, num_classes=10)
    >>> step, cpu = draw(model, Times(), 6, 0, 1), torch.device("cpu")
    >>> torch.equal(step.noise((3,), cpu)[2:4], step.part(2, 4).noise((3,), cpu))
    True
    """
    generator = torch.Generator().manual_seed(derived_seed(*seed))
    t = times.draw(model.schedule, num, generator)
    dropped = torch.rand(num, generator=generator) < model.class_dropout_prob
    return Draws(t, dropped, torch.randint(2**63 - 1, (num,), generator=generator).tolist())
