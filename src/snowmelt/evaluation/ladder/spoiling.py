"""Known ways to spoil real images. A metric with eyes says of each that it is worse than real.

A spoiling is a function of its own, listed in `SPOILINGS`. Sizes are relative to the image's side, so that
they look alike at every size: a side of 32 pixels is the measure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["SPOILINGS", "Spoiling"]

SIDE = 32  # pixels, of the images whose blur is stated in pixels


@dataclass(frozen=True)
class Spoiling:
    """A way to spoil a set of images.

    Attributes:
        name: in reports.
        spoil: the function of images uint8 (N, C, H, W), labels (N,) or None, strength and generator; it
            returns as many images.
        harms: what it takes from the images: ``"fidelity"`` of each one, or the ``"variety"`` of the set.
        strengths: from just visible to strong.
        usual: the strength that every report measures.
        unit: of the strengths.
        needs_labels: whether it needs two classes or more.
    """

    name: str
    spoil: Callable[[Tensor, Tensor | None, float, torch.Generator], Tensor]
    harms: Literal["fidelity", "variety"]
    strengths: tuple[float, ...]
    usual: float
    unit: str
    needs_labels: bool = False

    def __call__(
        self, images: Tensor, labels: Tensor | None = None, strength: float | None = None, seed: int = 0
    ) -> Tensor:
        """Return spoilt images uint8 (N, C, H, W).

        Args:
            images: uint8 (N, C, H, W).
            labels: (N,), or None.
            strength: in `unit`; None takes `usual`.
            seed: of what is random in it.
        """
        random = torch.Generator().manual_seed(seed)
        return self.spoil(images, labels, self.usual if strength is None else strength, random)


def noise(images: Tensor, labels: Tensor | None, strength: float, random: torch.Generator) -> Tensor:
    """Add Gaussian noise with a standard deviation of `strength` of 255 levels.

    >>> images = torch.full((2, 1, 64, 64), 100, dtype=torch.uint8)
    >>> noise(images, None, 20, torch.Generator().manual_seed(0)).float().std()
    tensor(20.0...)
    """
    noisy = images + strength * torch.randn(images.shape, generator=random)
    return noisy.round().clamp(0, 255).to(torch.uint8)


def blur(images: Tensor, labels: Tensor | None, strength: float, random: torch.Generator) -> Tensor:
    """Blur with a Gaussian whose standard deviation is `strength` pixels of a side of 32."""
    from torchvision.transforms.v2 import functional  # takes as long to load as torch

    sigma = strength * min(images.shape[-2:]) / SIDE
    reach = max(1, min(round(3 * sigma), min(images.shape[-2:]) - 1))  # it is padded with its reflection
    blurred: Tensor = functional.gaussian_blur(images, [2 * reach + 1] * 2, [sigma] * 2)
    return blurred


def shuffle(images: Tensor, labels: Tensor | None, strength: float, random: torch.Generator) -> Tensor:
    """Divide each image into `strength` x `strength` patches and shuffle them.

    >>> images = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    >>> shuffled = shuffle(images, None, 2, torch.Generator().manual_seed(0))
    >>> shuffled[0, 0, :2, :2].tolist() in [[[0, 1], [4, 5]], [[2, 3], [6, 7]], [[8, 9], [12, 13]], \
[[10, 11], [14, 15]]]
    True
    """
    cells = int(strength)
    height, width = (side // cells * cells for side in images.shape[-2:])
    inside = images[..., :height, :width]
    patches = inside.unflatten(3, (cells, -1)).unflatten(2, (cells, -1))  # (N, C, cells, h, cells, w)
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (N, patches, C, h, w)
    order = torch.rand(patches.shape[:2], generator=random).argsort(dim=1)
    patches = patches[torch.arange(len(patches))[:, None], order]
    patches = patches.unflatten(1, (cells, cells)).permute(0, 3, 1, 4, 2, 5)
    result = images.clone()
    result[..., :height, :width] = patches.reshape(inside.shape)
    return result


def few_classes(images: Tensor, labels: Tensor | None, strength: float, random: torch.Generator) -> Tensor:
    """Replace a share `strength` of the images by images of the largest class.

    Raises:
        ValueError: there are no labels.
    """
    if labels is None:
        raise ValueError("one class can be chosen only where images have labels")
    largest = (labels == labels.mode().values).nonzero().flatten()
    replaced = torch.rand(len(images), generator=random) < strength
    chosen = torch.arange(len(images))
    chosen[replaced] = largest[torch.randint(len(largest), (int(replaced.sum()),), generator=random)]
    return images[chosen]


def duplicates(images: Tensor, labels: Tensor | None, strength: float, random: torch.Generator) -> Tensor:
    """Keep one image in `strength`, and show it `strength` times."""
    kept = torch.randperm(len(images), generator=random)[: max(1, round(len(images) / strength))]
    return images[kept[torch.arange(len(images)) % len(kept)]]


_ALL = (
    Spoiling("noise", noise, "fidelity", (5, 10, 20, 40), 40, "of 255 levels"),
    Spoiling("blur", blur, "fidelity", (1.5, 2, 3, 4), 3, "pixels of 32"),
    Spoiling("shuffled patches", shuffle, "fidelity", (2, 4), 4, "patches a side"),
    Spoiling("one class only", few_classes, "variety", (0.25, 0.5, 1.0), 1.0, "of the images", True),
    Spoiling("duplicates", duplicates, "variety", (2, 4, 8, 16), 8, "times each image"),
)
SPOILINGS: dict[str, Spoiling] = {each.name: each for each in _ALL}
