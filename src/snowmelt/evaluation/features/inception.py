"""The Inception network of FID, as torch-fidelity ported it from TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt.digest import content_digest
from snowmelt.errors import InputError, optional
from snowmelt.evaluation.features.extractor import in_colour, read_weights

__all__ = ["InceptionExtractor"]


class InceptionExtractor:
    """2,048 features of the network that published FID, KID and IS values come from.

    Args:
        weights: a file in torch-fidelity's format; None takes the one that torch-fidelity has downloaded, or
            downloads it once.
        device: where to compute.

    Raises:
        InputError: torch-fidelity is not installed, or the weights are missing or do not fit.
    """

    dim = 2048

    def __init__(self, weights: str | Path | None = None, device: str | torch.device = "cpu") -> None:
        peer = optional("torch_fidelity.feature_extractor_inceptionv3", "inception", "evaluate")
        if weights is not None:
            read_weights(weights)  # refuses a file that would run code, which torch-fidelity would not
        self.device = torch.device(device)
        self.network = _load(peer, weights).to(self.device)
        self.name = f"inception-{content_digest(self.network.state_dict())[:16]}"

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, 2048), float32 on the CPU, of images uint8 (B, 1 or 3, H, W)."""
        with torch.no_grad():
            features: Tensor = self.network(in_colour(images).to(self.device))[0]
        return features.cpu()

    def probabilities(self, features: Tensor) -> Tensor:
        """Return class probabilities (B, 1008) from features (B, 2048), without a bias as in TensorFlow."""
        logits: Tensor = features.to(self.device) @ self.network.fc.weight.T
        return logits.double().softmax(dim=1).float().cpu()


def _load(peer: Any, weights: str | Path | None) -> Any:
    path = str(weights) if weights is not None else None
    try:
        return peer.FeatureExtractorInceptionV3("inception", ["2048"], path, verbose=False)
    except OSError as error:
        raise InputError(
            f"the weights of inception could not be downloaded ({error}): download {peer.URL_INCEPTION_V3} "
            f"elsewhere, and put the file into {torch.hub.get_dir()}/checkpoints, or give its path as weights"
        ) from error
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"{weights} holds no weights of torch-fidelity's Inception network ({str(error)[:200]}): "
            f"take the file from {peer.URL_INCEPTION_V3}"
        ) from error
