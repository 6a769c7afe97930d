"""What sets of images must have in common to be compared: one shape, and classes in the same shares."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from snowmelt.errors import InputError
from snowmelt.evaluation.sampled import SampledSource
from snowmelt.formats import ImageSource
from snowmelt.generation import balanced_labels

__all__ = ["check_labelled", "check_one_shape", "labels_in_shares_of"]


def check_one_shape(sources: Sequence[ImageSource]) -> None:
    """Check that images can be compared pixel by pixel. None is sampled for it.

    Raises:
        InputError: they have different shapes.
    """
    shapes = [
        source.image_shape if isinstance(source, SampledSource) else tuple(source.take([0]).shape[1:])
        for source in sources
    ]
    if len(set(shapes)) > 1:
        listed = ", ".join(f"{source.name} {shape}" for source, shape in zip(sources, shapes, strict=True))
        raise InputError(
            f"all images must have one shape, got {listed}: give one image_size and channels to all"
        )


def check_labelled(sources: Sequence[ImageSource]) -> None:
    """Check that all images have labels.

    Raises:
        InputError: some have none.
    """
    for source in sources:
        if source.labels is None:
            raise InputError(
                f"{source.name} has no labels, which the classifiers learn: give labelled images"
            )


def labels_in_shares_of(
    real: ImageSource | None, num_classes: int | None, num_samples: int
) -> list[int] | None:
    """Return labels to sample, class by class, in the shares that the classes have among real images.

    Args:
        real: None, or images without labels that the model knows, for equal shares.
        num_classes: of the model; None for an unconditional one, which gets no labels.
        num_samples: the number of labels.

    >>> from snowmelt.formats import TensorSource
    >>> labels_in_shares_of(TensorSource(torch.zeros(3, 1, 8, 8), [1, 0, 0]), num_classes=2, num_samples=6)
    [0, 0, 0, 0, 1, 1]
    """
    if num_classes is None:
        return None
    known = real.labels if real is not None else None
    known = known[known < num_classes].sort().values if known is not None else torch.empty(0)
    if len(known) == 0:
        return balanced_labels(num_samples, num_classes)
    places = (torch.arange(num_samples) + 0.5) * len(known) / num_samples
    labels: list[int] = known[places.long()].tolist()
    return labels
