"""From stored images to tensors in [-1, 1], and from there to augmented ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2

from snowmelt.errors import InputError
from snowmelt.images import Shape, from_uint8, resize

__all__ = ["Augmented", "augmentation", "derived_seed", "prepare"]

Sample = tuple[Tensor, int]


def prepare(shape: Shape) -> Callable[[Tensor], Tensor]:
    """Return the transform of a stored image, uint8 (C, H, W), to a float tensor in [-1, 1].

    >>> image = prepare(Shape((8, 8), 1))(torch.full((1, 20, 30), 255, dtype=torch.uint8))
    >>> image.shape, image.min().item()
    (torch.Size([1, 8, 8]), 1.0)
    """
    return partial(_prepared, shape=shape)


def _prepared(image: Tensor, shape: Shape) -> Tensor:
    return from_uint8(resize(image, shape))


def augmentation(
    horizontal_flip: bool = False, rotation_degrees: float = 0.0, color_jitter: float | None = None
) -> Callable[[Tensor], Tensor] | None:
    """Return the random changes of a training image (C, H, W) in [-1, 1]; None for no changes.

    Args:
        horizontal_flip: mirror half of the images.
        rotation_degrees: turn by up to that many degrees either way, in [0, 180]; corners become black.
        color_jitter: change brightness, contrast and (in colour) saturation by up to this share, in [0, 1].
    """
    if not 0 <= rotation_degrees <= 180:
        raise InputError(f"rotation_degrees must lie in [0, 180], got {rotation_degrees}")
    if color_jitter is not None and not 0 <= color_jitter <= 1:
        raise InputError(f"color_jitter must lie in [0, 1], or be None, got {color_jitter}")
    steps: list[Callable[[Tensor], Tensor]] = []
    if horizontal_flip:
        steps.append(v2.RandomHorizontalFlip())
    if rotation_degrees:
        steps.append(v2.RandomRotation(rotation_degrees, InterpolationMode.BILINEAR, fill=-1.0))
    if color_jitter:
        steps.append(_Jitter(color_jitter))
    return v2.Compose(steps) if steps else None


class _Jitter:
    """Colour jitter on [-1, 1]: torchvision's works on [0, 1]."""

    def __init__(self, strength: float) -> None:
        self.jitter = v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength)

    def __call__(self, image: Tensor) -> Tensor:
        changed: Tensor = self.jitter((image + 1) / 2)
        return changed * 2 - 1


class Augmented(Dataset[Sample]):
    """A data set with random changes: those of image i depend on (seed, epoch, i) alone.

    So it does not matter which worker, process or batch loads an image, or whether the run was resumed.
    """

    def __init__(
        self, dataset: Dataset[Sample], augment: Callable[[Tensor], Tensor], seed: int, epoch: int
    ) -> None:
        self.dataset = dataset
        self.augment = augment
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Sample:
        image, label = self.dataset[index]
        outside = torch.get_rng_state()  # torchvision draws from the global generator
        torch.default_generator.manual_seed(derived_seed(self.seed, self.epoch, index))
        try:
            return self.augment(image), label
        finally:
            torch.set_rng_state(outside)


def derived_seed(*numbers: int) -> int:
    """Return a seed that depends on all of `numbers` and nothing else."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])
