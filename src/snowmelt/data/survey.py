"""What a network will see: how many images of which class, their values, copies, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from snowmelt.data.loader import DiffusionDataLoader
from snowmelt.formats import ImageSource
from snowmelt.text import counted, some, text_table

__all__ = ["Survey", "survey"]

FEW = 50  # images of a class
UNEQUAL = 5  # times as many images in the largest class as in the smallest
LOOKED_AT = 2000  # images whose values are measured
OPENED = 100  # images whose own sizes are looked at
SHOWN = 8  # pictures of a class


@dataclass(frozen=True)
class Survey:
    """What there is to see.

    Attributes:
        classes: their names; one without a name where there are none.
        parts: the number of images of each class, in `train` and perhaps `val`.
        epoch: how many of each class an epoch shows.
        values: least, mean, standard deviation and largest of each channel, (C, 4), as the network sees them.
        pictures: of each class, (N, C, H, W) in [-1, 1], changed as in training.
        labels: of the pictures.
        warnings: what to beware of, a sentence each.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, list[int]]
    epoch: list[int]
    values: Tensor
    pictures: Tensor
    labels: list[int]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        columns = {**self.parts, "an epoch shows": self.epoch}
        numbers = [[f"{column[i]:,}" for column in columns.values()] for i in range(len(self.classes))]
        rows = [[name, *row] for name, row in zip(self.classes, numbers, strict=True)]
        rows.append(["all", *(f"{sum(column):,}" for column in columns.values())])
        measured = [
            [f"channel {i}", *(f"{value:.3f}" for value in row)] for i, row in enumerate(self.values.tolist())
        ]
        parts = [
            text_table([["class", *columns], *(rows if len(self.classes) > 1 else rows[-1:])]),
            text_table([["values", "least", "mean", "deviation", "largest"], *measured]),
            *(f"! {warning}" for warning in self.warnings),
        ]
        return "\n\n".join(parts)

    def as_json(self) -> dict[str, object]:
        """Return all but the pictures as plain values."""
        of_classes = {
            part: dict(zip(self.classes, counts, strict=True))
            for part, counts in {**self.parts, "epoch": self.epoch}.items()
        }
        names = ("least", "mean", "deviation", "largest")
        values = [dict(zip(names, row, strict=True)) for row in self.values.tolist()]
        return {"images": of_classes, "values": values, "warnings": list(self.warnings)}


def survey(data: DiffusionDataLoader) -> Survey:
    """Look at the first epoch.

    Raises:
        InputError: an image cannot be read.

    >>> found = survey(DiffusionDataLoader("digits:train", image_size=8, in_channels=1))
    >>> found.classes[:2], found.parts["train"][:2], found.epoch[:2], found.pictures.shape
    (('0', '1'), [142, 146], [142, 146], torch.Size([80, 1, 8, 8]))
    """
    data.prepare()
    classes = tuple(data.class_names) or ("images",)
    sources = data.sources()
    parts = {name: _counts(source.labels, len(classes)) for name, source in sources.items()}
    images, labels = _seen(data)
    chosen = torch.cat([(labels == label).nonzero().flatten()[:SHOWN] for label in range(len(classes))])
    flat = images.transpose(0, 1).flatten(1)
    return Survey(
        classes,
        parts,
        _counts(data.epoch_labels(0), len(classes)),
        torch.stack([flat.amin(1), flat.mean(1), flat.std(1), flat.amax(1)], dim=1),
        images[chosen],
        labels[chosen].tolist(),
        tuple(_warnings(data, sources, images, dict(zip(classes, parts["train"], strict=True)))),
    )


def _counts(labels: Tensor | None, classes: int) -> list[int]:
    assert labels is not None
    found: list[int] = labels.bincount(minlength=classes).tolist()
    return found


def _seen(data: DiffusionDataLoader) -> tuple[Tensor, Tensor]:
    """Return images and labels of the first epoch, as the network gets them."""
    images, labels, count = [], [], 0
    for x0, class_labels, *_ in data.train_loader(0):
        images.append(x0.cpu())
        labels.append(class_labels.cpu())
        count += len(x0)
        if count >= LOOKED_AT:
            break
    return torch.cat(images), torch.cat(labels)


def _warnings(
    data: DiffusionDataLoader, sources: Mapping[str, ImageSource], images: Tensor, counts: Mapping[str, int]
) -> Iterator[str]:
    few = [f"{name} {count}" for name, count in counts.items() if count < FEW]
    if few:
        yield (
            f"Fewer than {FEW} images of a class ({some(few, 5)}) are learned by heart, or hardly at all. "
            "Start from what others have trained (training.init), and look for copies (evaluate --train)"
        )
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= UNEQUAL * counts[least] and data.balance.sampling == "none":
        yield (
            f"{most} has {counts[most]:,} images and {least} {counts[least]:,}, so the network sees little "
            "of rare classes: data.balance.sampling=inverse shows them more often"
        )
    digests = {name: source.pixel_digests() for name, source in sources.items()}
    yield from _copies(
        digests, {name: source.items() for name, source in {**sources, "train": data.source}.items()}
    )
    if images.shape[1] == 3 and bool((images.amax(1) - images.amin(1)).max() < 2 / 255):
        yield "All images are gray: model.architecture.in_channels=1 leaves the network less to learn"
    train, (height, width) = sources["train"], data.image_shape[1:]
    wanted = range(0, len(train), -(-len(train) // OPENED))
    sizes = [tuple(image.shape[-2:]) for image in data.source.originals(wanted)]
    if small := [size for size in sizes if size[0] < height or size[1] < width]:
        yield (
            f"{len(small)} of {counted(len(sizes), 'image')} that were opened are smaller than {height} x "
            f"{width} (such as {small[0][0]} x {small[0][1]}) and are enlarged, which blurs them: lower "
            "model.architecture.image_size"
        )


def _copies(digests: Mapping[str, list[str]], names: Mapping[str, list[str]]) -> Iterator[str]:
    """Say which images are equal to others, pixel by pixel, in the size of training."""
    first: dict[str, str] = {}
    copies = []
    for digest, name in zip(digests["train"], names["train"], strict=True):
        if digest in first:
            copies.append(f"{name} = {first[digest]}")
        else:
            first[digest] = name
    if copies:
        yield (
            f"Training images that are copies of others: {len(copies)} ({some(copies)}). The network sees "
            "them more often than others"
        )
    leaks = [
        f"{name} = {first[digest]}"
        for digest, name in zip(digests.get("val", ()), names.get("val", ()), strict=True)
        if digest in first
    ]
    if leaks:
        yield (
            f"Validation images that are training images too: {len(leaks)} ({some(leaks)}). Validation will "
            "not show what is learned by heart: remove them, or let data.split divide the images"
        )
