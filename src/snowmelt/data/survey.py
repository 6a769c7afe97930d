"""What a network will see: how many images of which class, their values, copies, and what to beware of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
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
        parts: the number of images of each class, in ``train``, perhaps ``val``, and the other parts of the
            same list or division, such as ``test``.
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

    def tables(self) -> tuple[list[list[str]], list[list[str]]]:
        """Return the images of each class, and the values of each channel, as rows below a header."""
        columns = {**self.parts, "an epoch shows": self.epoch}
        numbers = [[f"{column[i]:,}" for column in columns.values()] for i in range(len(self.classes))]
        rows = [[name, *row] for name, row in zip(self.classes, numbers, strict=True)]
        rows.append(["all", *(f"{sum(column):,}" for column in columns.values())])
        measured = [
            [f"channel {i}", *(f"{value:.3f}" for value in row)] for i, row in enumerate(self.values.tolist())
        ]
        return (
            [["class", *columns], *(rows if len(self.classes) > 1 else rows[-1:])],
            [["values", "least", "mean", "deviation", "largest"], *measured],
        )

    def __str__(self) -> str:
        return "\n\n".join([*map(text_table, self.tables()), *(f"! {warning}" for warning in self.warnings)])

    def as_json(self) -> dict[str, object]:
        """Return all but the pictures as plain values."""
        of_classes = {
            part: dict(zip(self.classes, counts, strict=True))
            for part, counts in {**self.parts, "epoch": self.epoch}.items()
        }
        names = ("least", "mean", "deviation", "largest")
        values = [dict(zip(names, row, strict=True)) for row in self.values.tolist()]
        return {"images": of_classes, "values": values, "warnings": list(self.warnings)}


def survey(data: DiffusionDataLoader, tell: Callable[[int, int], None] | None = None) -> Survey:
    """Look at the first epoch.

    Args:
        data: the images to train on, and those to validate on.
        tell: called with the number of images that were compared with others so far, and that of all; what
            it raises ends the work.

    Raises:
        InputError: an image cannot be read.

    >>> found = survey(DiffusionDataLoader("digits:train", image_size=8, in_channels=1))
    >>> found.classes[:2], found.parts["train"][:2], found.epoch[:2], found.pictures.shape
    (('0', '1'), [142, 146], [142, 146], torch.Size([80, 1, 8, 8]))
    """
    opened = data.images.parts()
    parts = {**opened, **data.sources()}  # decoded, if training keeps them so
    classes = tuple(data.class_names) or ("images",)
    counts = {name: _counts(source.labels, len(classes)) for name, source in parts.items()}
    values, pictures, has_colour = _seen(data, len(classes))
    warnings = [
        *_of_sizes(dict(zip(classes, counts["train"], strict=True)), data),
        *_copies(parts, {name: source.items() for name, source in opened.items()}, tell),
        *_of_pixels(data, has_colour),
    ]
    return Survey(
        classes,
        counts,
        _counts(data.epoch_labels(0), len(classes)),
        values,
        torch.stack([image for own in pictures for image in own]),
        [label for label, own in enumerate(pictures) for _ in own],
        tuple(warnings),
    )


def _counts(labels: Tensor | None, classes: int) -> list[int]:
    assert labels is not None
    found: list[int] = labels.bincount(minlength=classes).tolist()
    return found


def _seen(data: DiffusionDataLoader, classes: int) -> tuple[Tensor, list[list[Tensor]], bool]:
    """Return values of each channel, pictures of each class, and whether there are colours, of an epoch.

    Sums run along with the batches, so that no more than one of these is in memory.
    """
    channels, height, width = data.image_shape
    least, largest = torch.full((channels,), torch.inf), torch.full((channels,), -torch.inf)
    total, squares = torch.zeros(2, channels, dtype=torch.float64)
    pictures: list[list[Tensor]] = [[] for _ in range(classes)]
    count, colour = 0, 0.0
    for x0, class_labels, *_ in data.train_loader(0):
        flat = x0.cpu().transpose(0, 1).flatten(1)
        least, largest = torch.minimum(least, flat.amin(1)), torch.maximum(largest, flat.amax(1))
        total += flat.sum(1, dtype=torch.float64)
        squares += flat.double().square().sum(1)
        colour = max(colour, float((x0.amax(1) - x0.amin(1)).max()))
        for image, label in zip(x0.cpu(), class_labels.tolist(), strict=True):
            if len(pictures[label]) < SHOWN:
                pictures[label].append(image.clone())
        count += len(x0)
        if count >= LOOKED_AT:
            break
    number = count * height * width
    variance = (squares - total.square() / number).clamp(min=0) / (number - 1)
    values = torch.stack([least.double(), total / number, variance.sqrt(), largest.double()], dim=1)
    return values, pictures, colour >= 2 / 255


def _of_sizes(counts: Mapping[str, int], data: DiffusionDataLoader) -> Iterator[str]:
    """Say which classes are small, and whether they are unequal."""
    few = [f"{name} {count}" for name, count in counts.items() if count < FEW]
    if few:
        what = f"of a class ({some(few, 5)})" if data.class_names else f"({data.num_train_images})"
        yield (
            f"Fewer than {FEW} images {what} are learned by heart, or hardly at all. "
            "Start from what others have trained (training.init), and look for copies (evaluate --train)"
        )
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= UNEQUAL * counts[least] and data.balance.sampling == data.balance.weights == "none":
        yield (
            f"{most} has {counts[most]:,} images and {least} {counts[least]:,}, so the network sees little "
            "of rare classes: data.balance.sampling=inverse shows them more often"
        )


def _copies(
    parts: Mapping[str, ImageSource],
    items: Mapping[str, list[str]],
    tell: Callable[[int, int], None] | None = None,
) -> Iterator[str]:
    """Say which images are equal to others, pixel by pixel, in the size of training.

    Args:
        parts: which images may not have copies in each other.
        items: what each image of a part is called.
        tell: as for `survey`.
    """
    done, total = 0, sum(map(len, parts.values()))
    first: dict[str, tuple[str, str]] = {}
    copies: dict[tuple[str, str], list[str]] = defaultdict(list)
    for part, source in parts.items():
        for digest, item in zip(source.pixel_digests(), items[part], strict=True):
            done += 1
            if tell is not None:
                tell(done, total)
            if digest in first:
                there, same = first[digest]
                copies[part, there].append(f"{item} = {same}")
            else:
                first[digest] = part, item
    for (part, there), own in copies.items():
        if part != there:
            yield (
                f"Images of {part} that are images of {there} too: {len(own)} ({some(own)}). Figures on them "
                "do not show what is learned by heart: keep each image in one part alone"
            )
        elif part == "train":
            yield (
                f"Training images that are copies of others: {len(own)} ({some(own)}). The network sees "
                "them more often than others"
            )


def _of_pixels(data: DiffusionDataLoader, has_colour: bool) -> Iterator[str]:
    """Say whether images have fewer channels or smaller sizes than the network sees."""
    channels, height, width = data.image_shape
    if channels == 3 and not has_colour:
        yield "All images are gray: model.architecture.in_channels=1 leaves the network less to learn"
    wanted = range(0, len(data.source), -(-len(data.source) // OPENED))
    sizes = [tuple(image.shape[-2:]) for image in data.source.originals(wanted)]
    if small := [size for size in sizes if size[0] < height or size[1] < width]:
        yield (
            f"{len(small)} of {counted(len(sizes), 'image')} that were opened are smaller than {height} x "
            f"{width} (such as {small[0][0]} x {small[0][1]}) and are enlarged, which blurs them: lower "
            "model.architecture.image_size"
        )
