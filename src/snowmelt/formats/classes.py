"""The classes of two sets of images: one numbering, and equal shares."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TypeVar

import torch

from snowmelt.formats.source import ImageSource

__all__ = ["renumber_classes"]

Source = TypeVar("Source", bound=ImageSource)


def renumber_classes(source: Source, names: Sequence[str] | None) -> Source:
    """Return a source with its classes numbered as in `names`, by their own names.

    A folder of class folders numbers the classes that it holds: without a folder for class 0, class 1 is its
    first. Classes that are not in `names` get the numbers after them. A source without class names, or
    without any of these names, stays as it is, since nothing but its numbers is known.

    >>> from snowmelt.formats import TensorSource
    >>> birds = TensorSource(torch.zeros(3, 1, 8, 8), [0, 1, 1], ["crow", "owl"])
    >>> found = renumber_classes(birds, ["bat", "owl", "crow"])
    >>> found.labels, found.class_names
    (tensor([2, 1, 1]), ['bat', 'owl', 'crow'])
    """
    if source.labels is None or source.class_names is None or names is None:
        return source
    if source.class_names == list(names) or not set(source.class_names) & set(names):
        return source
    renumbered = copy(source)
    renumbered.class_names = [*names, *(name for name in source.class_names if name not in names)]
    numbers = torch.tensor([renumbered.class_names.index(name) for name in source.class_names])
    renumbered.labels = numbers[source.labels]
    return renumbered
