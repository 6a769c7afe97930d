"""Features for a search: of images that are not rounded, so that a small change is seen."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.evaluation.features import EXTRACTORS, SUFFIXES, Extractor, make_extractor

__all__ = ["SmoothFeatures", "smooth_features"]

SIDE = 64  # pixels for imagenet: a third of the time of 128, and digits tuned with it were as good


class SmoothFeatures:
    """An extractor as a function of images in [-1, 1], any values between which are others to it.

    Args:
        extractor: one that takes floating values in [0, 255].

    >>> from snowmelt.evaluation.features import pixels
    >>> SmoothFeatures(pixels())(torch.full((1, 1, 1, 2), 0.001)).round(decimals=4)
    tensor([[0.0010, 0.0010]])
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.name = extractor.name

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, D), float32, of images (B, C, H, W) in [-1, 1]."""
        return self.extractor((images + 1) * 127.5)


def smooth_features(name: str, device: str | torch.device = "cpu") -> SmoothFeatures:
    """Return features that a search can use, by name.

    Args:
        name: ``imagenet``, ``timm:MODEL``, or a TorchScript file ``.pt`` or ``.ts``.
        device: where to compute.

    Raises:
        InputError: the name is unknown, its network takes whole numbers only, or it must be trained first.
    """
    kind = SUFFIXES.get(Path(name).suffix.lower(), name.partition(":")[0])
    if kind in EXTRACTORS and kind not in ("imagenet", "timm", "torchscript"):
        raise InputError(
            f"the features {name} cannot lead a search: take imagenet, timm:MODEL, or a TorchScript file "
            ".pt or .ts"
        )
    side = {"side": SIDE} if kind == "imagenet" else {}
    return SmoothFeatures(make_extractor(name, device=device, **side))
