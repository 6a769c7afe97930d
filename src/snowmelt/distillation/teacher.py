"""The model that a student imitates: a checkpoint, under a guidance scale, with a deterministic method."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from snowmelt.data.order import derived_seed
from snowmelt.errors import InputError
from snowmelt.models import Checkpoint
from snowmelt.plans import Method
from snowmelt.sampling import DiffusionSampler, Request, SeededNoise

__all__ = ["Teacher"]


class Teacher:
    """Turns noise into images: number i stands for noise i, and for the class i modulo their number.

    Args:
        checkpoint: of a model that snowmelt builds; its averaged weights are taken, where it has some.
        guidance_scale: that its images are made with; the student has it baked in.
        method: a deterministic one; None takes the checkpoint's own or, where it has none, the preset
            ``balanced``.
        device: where it works.
        seed: of the noise.

    Raises:
        InputError: the method draws noise on its way, or guidance has no meaning for the model.
        CheckpointError: the checkpoint does not say how to build its network.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(8, 1, 8, (1,), norm_groups=4, num_classes=3)
    >>> teacher = Teacher(Checkpoint.of(model), guidance_scale=2.0, method="ddim:4")
    >>> teacher.images(range(4)).shape, teacher.labels(range(4)).tolist()
    (torch.Size([4, 1, 8, 8]), [0, 1, 2, 0])
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        guidance_scale: float = 0.0,
        method: Method | str | None = None,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        self.checkpoint, self.guidance_scale, self.seed = checkpoint, guidance_scale, seed
        self.sampler = DiffusionSampler.from_pretrained(
            checkpoint, device, use_ema=checkpoint.ema is not None, method=method
        )
        if self.sampler.plan.stochastic:
            raise InputError(
                f"the teacher's method {self.sampler.method} draws noise on its way, so that no image "
                "belongs to a noise: take a deterministic one, such as balanced or quality"
            )
        self.sampler.check(self.request(range(1)))

    @cached_property
    def about(self) -> dict[str, Any]:
        """All that decides the images, as JSON can hold it: the student's checkpoint states it."""
        return {
            "checkpoint": self.checkpoint.digest,
            "method": str(self.sampler.method),
            "evaluations": self.sampler.plan.nfe,
            "guidance": self.sampler.guidance.describe(),
            "guidance_scale": self.guidance_scale,
            "seed": self.seed,
        }

    def labels(self, numbers: range) -> Tensor:
        """Return the classes, (N,) int64; 0 for a model without classes."""
        return torch.arange(numbers.start, numbers.stop) % (self.sampler.model.num_classes or 1)

    def noise(self, numbers: range) -> Tensor:
        """Return the noise, (N, C, H, W) standard normal float32, on the CPU."""
        return SeededNoise(self._seeds(numbers), self.sampler.model.image_shape)()

    def images(self, numbers: range) -> Tensor:
        """Return the images that the noise turns into, (N, C, H, W) float32 in [-1, 1], on the CPU.

        Image i depends on number i alone, to the bit.
        """
        made = self.sampler.batches(self.request(numbers))
        return torch.cat([images.cpu() for images in made])

    def request(self, numbers: range) -> Request:
        """Return what the sampler is asked for."""
        labels = self.labels(numbers) if self.sampler.model.num_classes else None
        return Request.of(len(numbers), labels, self.guidance_scale, seeds=self._seeds(numbers))

    def _seeds(self, numbers: range) -> list[int]:
        return [derived_seed(self.seed, number) for number in numbers]
