"""A small convolutional classifier that is trained on the images at hand, as an extractor.

It needs no download. Its training takes seconds on small images and minutes on larger ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from snowmelt.digest import content_digest
from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.formats import ImageSource
from snowmelt.images import from_uint8
from snowmelt.progress import progress

__all__ = [
    "ClassifierExtractor",
    "SmallClassifier",
    "check_trainable",
    "classifier",
    "default_steps",
    "train_classifier",
]

VERSION = 1  # of the network and its training; a cached classifier of another version is not used
ROWS = 256

WIDTH, WIDEST, FEATURES = 32, 128, 64
GROUPS = 4
SMALLEST_SIDE = 4  # of a stage; each one halves the image
BATCH_SIZE = 64
LEAST_STEPS, LEAST_PASSES = 300, 5
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
SHIFT = 16  # images are moved by up to this part of their side


class SmallClassifier(nn.Module):
    """Stages of two convolutions and a halving, down to four pixels a side; 64 features; the classes.

    Args:
        channels: of the images.
        image_size: (H, W), which decides the number of stages.
        num_classes: K, the number of classes.

    >>> network = SmallClassifier(1, (8, 8), num_classes=10)
    >>> images = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
    >>> network(images).shape, network.features(images).shape
    (torch.Size([5, 10]), torch.Size([5, 64]))
    """

    def __init__(self, channels: int, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        side, width = min(image_size), WIDTH
        layers: list[nn.Module] = [*_stage(channels, width)]
        while side > SMALLEST_SIDE:
            narrow, width, side = width, min(2 * width, WIDEST), side // 2
            layers += [nn.MaxPool2d(2), *_stage(narrow, width)]
        layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, FEATURES), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return the features (B, 64) of images uint8 (B, C, H, W): what the last layer sees."""
        features: Tensor = self.body(from_uint8(images))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, K) of images uint8 (B, C, H, W)."""
        logits: Tensor = self.head(self.features(images))
        return logits


def default_steps(num_images: int) -> int:
    """Return the number of batches of a training: five passes over the images, and at least 300.

    >>> default_steps(100), default_steps(6400)
    (300, 500)
    """
    return max(LEAST_STEPS, LEAST_PASSES * num_images // BATCH_SIZE)


def train_classifier(
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    steps: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    weights: Tensor | None = None,
    change: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    show_progress: bool = False,
) -> SmallClassifier:
    """Return a classifier trained on labelled images, in eval mode.

    The result follows from the images, their order and the seed (on the CPU to the bit, with the same number
    of threads). Images are drawn with replacement and, unless `change` says otherwise, moved by a few pixels.
    They are never mirrored, since they may show digits or letters.

    Args:
        images: uint8 (N, C, H, W).
        labels: (N,) integers below `num_classes`.
        num_classes: K >= 2.
        steps: batches of 64; None takes five passes over the images, and at least 300.
        seed: of the weights and of the order.
        device: where to train, and where the classifier stays.
        weights: (N,) how often to draw each image, in proportion; None draws all equally often.
        change: what is done to the images of each batch; it draws from the generator alone. None moves them.
        show_progress: show a bar.

    Raises:
        ValueError: a shape, a type or a label does not fit.

    >>> images = 255 * torch.eye(2, dtype=torch.uint8).repeat(30, 1).reshape(60, 1, 1, 2).expand(60, 1, 4, 2)
    >>> network = train_classifier(images, torch.arange(60) % 2, num_classes=2, steps=20)
    >>> network(images[:4]).argmax(dim=1)
    tensor([0, 1, 0, 1])
    """
    _check(images, labels, num_classes)
    change = change or _shifted
    images, labels = images.to(device), labels.to(device, torch.int64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallClassifier(images.shape[1], (images.shape[2], images.shape[3]), num_classes)
    network.to(device)
    random = torch.Generator().manual_seed(seed)
    if steps is None:
        steps = default_steps(len(images))
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in progress(range(steps), "Classifier", show=show_progress, unit="step", leave=False):
        if weights is None:
            chosen = torch.randint(len(images), (BATCH_SIZE,), generator=random).to(device)
        else:
            chosen = torch.multinomial(weights, BATCH_SIZE, replacement=True, generator=random).to(device)
        loss = functional.cross_entropy(network(change(images[chosen], random)), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return network.eval().requires_grad_(False)


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
        self.name = f"classifier-{content_digest(network.state_dict())[:16]}"

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, 64), float32 on the CPU, of images uint8 (B, C, H, W).

        Raises:
            InputError: the training images had another shape.
        """
        if images.shape[1:] != self.image_shape:
            raise InputError(
                f"the classifier was trained on images {_shape(self.image_shape)} and cannot read "
                f"{_shape(images.shape[1:])}: give image_size and channels, so that all images have one shape"
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
        source: labelled real images of two classes or more.
        cache: a folder that keeps the classifier under the hash of images, labels and settings; None keeps
            nothing.
        seed, steps, show_progress: as in `train_classifier`.
        device: where to train and to compute.

    Raises:
        InputError: the images have no labels, or are of one class.

    >>> from snowmelt.formats import open_images
    >>> extractor = classifier(open_images("digits:test"), steps=10)
    >>> extractor(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape
    torch.Size([2, 64])
    """
    labels = check_trainable(source)
    num_classes = max(int(labels.max()) + 1, len(source.class_names or ()))
    shape = tuple(source.take([0]).shape[1:])
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


def check_trainable(source: ImageSource) -> Tensor:
    """Return the labels of images that a classifier can learn from.

    Raises:
        InputError: the images have no labels, or are of one class.
    """
    labels = source.labels
    if labels is None or len(labels.unique()) < 2 or labels.min() < 0:
        raise InputError(
            f"the extractor classifier learns to tell classes apart, and {source.name} has "
            f"{'no labels' if labels is None else 'fewer than two classes'}: give labelled images, or take "
            "pixels, inception or another extractor"
        )
    return labels


def _check(images: Tensor, labels: Tensor, num_classes: int) -> None:
    if images.ndim != 4 or images.dtype != torch.uint8 or len(images) == 0:
        raise ValueError(f"images must be uint8 (N, C, H, W), got {images.dtype} {tuple(images.shape)}")
    if labels.shape != (len(images),):
        raise ValueError(f"labels must be one for each image, ({len(images)},), got {tuple(labels.shape)}")
    if num_classes < 2:
        raise ValueError(f"a classifier needs at least 2 classes, got num_classes = {num_classes}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels must lie in 0..{num_classes - 1}, got {int(labels.min())} to {int(labels.max())}"
        )


def _stage(channels: int, width: int) -> list[nn.Module]:
    return [
        layer
        for inside in (channels, width)
        for layer in (
            nn.Conv2d(inside, width, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, width),
            nn.ReLU(),
        )
    ]


def _shifted(images: Tensor, random: torch.Generator) -> Tensor:
    """Move a batch by a random number of pixels each way, repeating the border."""
    height, width = images.shape[-2:]
    reach = min(height, width) // SHIFT
    if reach == 0:
        return images
    down, right = torch.randint(2 * reach + 1, (2,), generator=random).tolist()
    # uint8 cannot be padded with its border, floats can
    padded = functional.pad(images.float(), [reach] * 4, mode="replicate").to(torch.uint8)
    return padded[..., down : down + height, right : right + width]


def _path(
    cache: str | Path, source: ImageSource, labels: Tensor, num_classes: int, seed: int, steps: int | None
) -> Path:
    facts = (VERSION, source.content_hash(), num_classes, seed, steps)
    key = content_digest(labels, *facts)
    return Path(cache) / f"classifier-{key[:32]}.safetensors"


def _read(network: SmallClassifier, path: Path) -> bool:
    """Load cached weights into a network; return whether they were there and fitted."""
    try:
        network.load_state_dict(safetensors.torch.load(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError):
        return False
    return True


def _shape(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width}x{height} pixels in {'colour' if channels == 3 else 'gray'}"
