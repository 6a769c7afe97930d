"""Classes of generated images in the shares that they have among real ones."""

from __future__ import annotations

import torch

from snowmelt.formats import ImageSource
from snowmelt.generation import balanced_labels

__all__ = ["labels_in_shares_of"]


def labels_in_shares_of(real: ImageSource | None, num_classes: int, num_samples: int) -> list[int]:
    """Return labels to sample, class by class, in the shares that the classes have among real images.

    Args:
        real: None, or images without labels that the model knows, for equal shares.
        num_classes: of the model.
        num_samples: the number of labels.

    >>> from snowmelt.formats import TensorSource
    >>> labels_in_shares_of(TensorSource(torch.zeros(3, 1, 8, 8), [1, 0, 0]), num_classes=2, num_samples=6)
    [0, 0, 0, 0, 1, 1]
    """
    known = real.labels if real is not None else None
    known = known[known < num_classes].sort().values if known is not None else torch.empty(0)
    if len(known) == 0:
        return balanced_labels(num_samples, num_classes)
    places = (torch.arange(num_samples) + 0.5) * len(known) / num_samples
    labels: list[int] = known[places.long()].tolist()
    return labels
