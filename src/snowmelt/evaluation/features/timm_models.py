"""Networks of the library timm, such as DINO's, by name."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt.digest import content_digest
from snowmelt.errors import InputError, optional
from snowmelt.evaluation.features.extractor import resized

__all__ = ["TimmExtractor"]


class TimmExtractor:
    """The features before the last layer of a timm model, with the normalization of its training.

    Args:
        model: timm's name, such as ``vit_small_patch14_dinov2.lvd142m``.
        weights: a file; None takes the weights that timm has downloaded, or downloads them once.
        device: where to compute.

    Raises:
        InputError: timm is not installed or does not know the model, or the weights are missing.
    """

    def __init__(
        self, model: str, weights: str | Path | None = None, device: str | torch.device = "cpu"
    ) -> None:
        timm, timm_data = (optional(name, f"timm:{model}", "evaluate") for name in ("timm", "timm.data"))
        self.device = torch.device(device)
        self.network = _load(timm, model, weights).eval().requires_grad_(False).to(self.device)
        config = timm_data.resolve_model_data_config(self.network)
        self.size = list(config["input_size"][1:])
        self.mean, self.std = list(config["mean"]), list(config["std"])
        self.dim: int | None = self.network.num_features
        self.name = f"timm:{model}-{content_digest(self.network.state_dict())[:16]}"

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, D), float32 on the CPU, of images uint8 (B, 1 or 3, H, W)."""
        from torchvision.transforms.v2 import functional  # takes as long to load as torch

        x = resized(images, self.size, self.device)
        x = functional.normalize(x.float() / 255, self.mean, self.std)
        with torch.no_grad():
            features: Tensor = self.network(x)
        return features.flatten(1).float().cpu()


def _load(timm: Any, model: str, weights: str | Path | None) -> Any:
    if not timm.is_model(model):
        near = get_close_matches(model, timm.list_models(), n=5)
        raise InputError(f"timm has no model {model}; near it are {', '.join(near) or 'none'}")
    overlay = {"file": str(weights), "custom_load": False} if weights is not None else {}
    try:
        return timm.create_model(model, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
    except Exception as error:  # its hub raises errors of several libraries
        raise InputError(
            f"the weights of timm's {model} could not be loaded ({str(error)[:200]}): connect to the network "
            "once, or give a file of weights"
        ) from error
