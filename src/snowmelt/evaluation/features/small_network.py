"""A small convolutional classifier and its training: seconds on small images, minutes on larger ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from snowmelt.images import from_uint8
from snowmelt.progress import progress

__all__ = ["SmallClassifier", "default_steps", "train_classifier"]

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
        num_classes: K.

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
    """Return how many batches make a training: five passes over the images, and never fewer than 300.

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
    show_progress: bool = False,
) -> SmallClassifier:
    """Return a classifier trained on labelled images, in eval mode.

    The result follows from the images, their order and the seed; on the CPU to the bit, with the same number
    of threads. Images are drawn with replacement and moved by a few pixels; they are never mirrored, for
    digits and letters.

    Args:
        images: uint8 (N, C, H, W).
        labels: (N,) integers below `num_classes`.
        num_classes: K >= 2.
        steps: batches of 64; None takes 300, or as many as make five passes over the images if that is more.
        seed: of the weights and of the order.
        device: where to train, and where the classifier stays.
        show_progress: show a bar.

    Raises:
        ValueError: shapes, types or labels are not those.

    >>> images = 255 * torch.eye(2, dtype=torch.uint8).repeat(30, 1).reshape(60, 1, 1, 2).expand(60, 1, 4, 2)
    >>> network = train_classifier(images, torch.arange(60) % 2, num_classes=2, steps=20)
    >>> network(images[:4]).argmax(dim=1)
    tensor([0, 1, 0, 1])
    """
    _check(images, labels, num_classes)
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
        chosen = torch.randint(len(images), (BATCH_SIZE,), generator=random).to(device)
        loss = functional.cross_entropy(network(_shifted(images[chosen], random)), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return network.eval().requires_grad_(False)


def _check(images: Tensor, labels: Tensor, num_classes: int) -> None:
    if images.ndim != 4 or images.dtype != torch.uint8 or len(images) == 0:
        raise ValueError(f"images must be uint8 (N, C, H, W), got {images.dtype} {tuple(images.shape)}")
    if labels.shape != (len(images),):
        raise ValueError(f"labels must be one an image, ({len(images)},), got {tuple(labels.shape)}")
    if num_classes < 2:
        raise ValueError(f"a classifier tells at least 2 classes apart, got num_classes = {num_classes}")
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
