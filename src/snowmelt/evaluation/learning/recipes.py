"""Recipes: how a classifier draws and changes its training images.

The augmentations are the usual ones of small images (Shorten and Khoshgoftaar 2019, "A survey on image data
augmentation for deep learning"). Each image of a batch gets its own, and a generator decides them all.
torchvision draws one change for a whole batch, and draws it from the global generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["RECIPES", "Recipe", "augment", "class_balanced", "unequal"]

SHIFT = 1 / 8  # of the side
ROTATION = math.radians(10)
ZOOM = 0.1
LIGHT = 0.2  # brightness and contrast
UNEQUAL = 1.1  # images of the largest class for each one of the smallest, above which sampling can matter


@dataclass(frozen=True)
class Recipe:
    """How a classifier draws and changes its training images.

    Attributes:
        balanced: all classes are drawn equally often.
        augmented: images are moved, turned, zoomed, lightened and darkened.
        mirrored: half of the augmented images are mirrored too, which spoils digits and letters.

    >>> print(Recipe(), Recipe(balanced=True, augmented=True), sep=", ")
    plain, balanced + augmented
    """

    balanced: bool = False
    augmented: bool = False
    mirrored: bool = False

    def __str__(self) -> str:
        names = [name for name in ("balanced", "augmented", "mirrored") if getattr(self, name)]
        return " + ".join(names) or "plain"


RECIPES = (Recipe(), Recipe(balanced=True), Recipe(augmented=True), Recipe(balanced=True, augmented=True))


def augment(images: Tensor, random: torch.Generator, mirrored: bool = False) -> Tensor:
    """Return each image moved, turned, zoomed, lightened or darkened, uint8 (B, C, H, W) as it came.

    Shifts reach an eighth of the side, rotations 10 degrees, zooms a tenth, brightness and contrast a fifth.
    The border is repeated where an image moves away from it.

    Args:
        images: uint8 (B, C, H, W).
        random: decides the changes.
        mirrored: mirror half of the images, left to right.

    >>> images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(5, 1, 8, 8)
    >>> changed = augment(images, torch.Generator().manual_seed(0))
    >>> changed.shape, changed.dtype, len(changed.unique(dim=0))
    (torch.Size([5, 1, 8, 8]), torch.uint8, 5)
    """
    count, _, height, width = images.shape
    draws = torch.rand(7, count, generator=random) * 2 - 1  # on the CPU: the same on every device
    right, down, turn, zoom, light, contrast, side = draws.to(images.device)
    cosine, sine = (function(ROTATION * turn) * (1 + ZOOM * zoom) for function in (torch.cos, torch.sin))
    face = torch.where(side < 0, -1.0, 1.0) if mirrored else torch.ones_like(side)
    # A side is 2 long here, whatever its number of pixels
    rows = [
        [cosine * face, -sine * height / width, 2 * SHIFT * right],
        [sine * face * width / height, cosine, 2 * SHIFT * down],
    ]
    affine = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    lit = moved * (1 + LIGHT * light)[:, None, None, None]
    middle = lit.mean(dim=(1, 2, 3), keepdim=True)
    changed = middle + (lit - middle) * (1 + LIGHT * contrast)[:, None, None, None]
    pixels: Tensor = changed.round().clamp(0, 255).to(torch.uint8)
    return pixels


def class_balanced(labels: Tensor) -> Tensor:
    """Return weights (N,) with which every class is drawn equally often, from labels (N,).

    >>> class_balanced(torch.tensor([0, 0, 0, 1]))
    tensor([0.3333, 0.3333, 0.3333, 1.0000])
    """
    return torch.ones(()) / labels.bincount()[labels]


def unequal(labels: Tensor) -> bool:
    """Return whether one class has so many more images than another that sampling can matter.

    >>> unequal(torch.tensor([0, 0, 0, 1])), unequal(torch.tensor([0, 1, 0, 1, 3, 3]))
    (True, False)
    """
    counts = labels.unique(return_counts=True)[1]
    return bool(counts.max() > UNEQUAL * counts.min())
