"""A small classifier, trained on the images at hand: the choice where no network is at home."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.evaluation.features.small_network import FEATURES, SmallClassifier, train_classifier
from snowmelt.evaluation.hashing import tensors_hash
from snowmelt.files import atomic_write
from snowmelt.formats import ImageSource

__all__ = ["ClassifierExtractor", "classifier"]

VERSION = 1  # of the network and its training: a cached one of another version is not used
ROWS = 256


class ClassifierExtractor:
    """The 64 features that the last layer of a trained `SmallClassifier` sees.

    Args:
        network: the classifier.
        image_shape: (C, H, W) of the images that it was trained on.

    Attributes:
        network: the classifier, in eval mode.
    """

    dim = FEATURES

    def __init__(self, network: SmallClassifier, image_shape: tuple[int, ...]) -> None:
        self.network = network.eval()
        self.image_shape = image_shape
        self.name = f"classifier-{tensors_hash(network.state_dict())[:16]}"

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, 64), float32 on the CPU, of images uint8 (B, C, H, W).

        Raises:
            InputError: the images have another shape than those that it was trained on.
        """
        if images.shape[1:] != self.image_shape:
            raise InputError(
                f"the classifier was trained on images {_shape(self.image_shape)}, and cannot look at "
                f"{_shape(images.shape[1:])}: give image_size and channels, so that all have one shape"
            )
        with torch.no_grad():
            return self.network.features(images.to(self._device)).cpu()

    def probabilities(self, features: Tensor) -> Tensor:
        """Return class probabilities (B, K) from features (B, 64)."""
        with torch.no_grad():
            logits: Tensor = self.network.head(features.to(self._device))
        return logits.double().softmax(dim=1).float().cpu()

    @property
    def _device(self) -> torch.device:
        return self.network.head.weight.device


def classifier(
    source: ImageSource,
    *,
    cache: str | Path | None = None,
    seed: int = 0,
    steps: int | None = None,
    device: str | torch.device = "cpu",
    show_progress: bool = False,
) -> ClassifierExtractor:
    """Return the extractor of a classifier that is trained on a source, or read from the cache.

    Args:
        source: labelled images of two classes or more; the real ones, not those to judge.
        cache: a folder where the classifier is kept under the hash of images, labels and settings; None keeps
            nothing.
        seed, steps, show_progress: as for `train_classifier`.
        device: where to train, and where to compute.

    Raises:
        InputError: the images have no labels, or are of one class.

    >>> from snowmelt.formats import open_images
    >>> extractor = classifier(open_images("digits:test"), steps=10)
    >>> extractor(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape
    torch.Size([2, 64])
    """
    labels = source.labels
    if labels is None or len(labels.unique()) < 2 or labels.min() < 0:
        raise InputError(
            f"the extractor classifier is trained on classes, and {source.name} has "
            f"{'no labels' if labels is None else 'not two of them'}: give labelled images, or take pixels, "
            "inception or another extractor"
        )
    num_classes = max(int(labels.max()) + 1, len(source.class_names or ()))
    shape = tuple(next(source.batches(1)).shape[1:])
    network = SmallClassifier(shape[0], (shape[1], shape[2]), num_classes)
    path = _path(cache, source, labels, num_classes, seed, steps) if cache is not None else None
    if path is None or not _read(network, path):
        images = torch.cat(list(source.batches(ROWS)))
        network = train_classifier(
            images, labels, num_classes, steps=steps, seed=seed, device=device, show_progress=show_progress
        )
        if path is not None:
            weights = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
            with atomic_write(path) as file:
                file.write(safetensors.torch.save(weights))
    return ClassifierExtractor(network.to(device).requires_grad_(False), shape)


def _path(
    cache: str | Path, source: ImageSource, labels: Tensor, num_classes: int, seed: int, steps: int | None
) -> Path:
    facts = (VERSION, source.content_hash(), num_classes, seed, steps)
    key = tensors_hash({"labels": labels}, *facts)
    return Path(cache) / f"classifier-{key[:32]}.safetensors"


def _read(network: SmallClassifier, path: Path) -> bool:
    """Load cached weights into a network; return whether there are some that fit."""
    try:
        network.load_state_dict(safetensors.torch.load(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError):
        return False
    return True


def _shape(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width}x{height} pixels in {'colour' if channels == 3 else 'gray'}"
