"""Classes of two sets of images, under one numbering."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from snowmelt.formats.source import ImageSource

__all__ = ["renumber_classes"]


class _Renumbered(ImageSource):
    """A source whose classes have other numbers."""

    def __init__(self, source: ImageSource, labels: Tensor, class_names: list[str]) -> None:
        super().__init__(source.name, len(source), labels, class_names)
        self.source = source

    def content_hash(self) -> str:
        return self.source.content_hash()

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        return self.source.batches(batch_size)

    def take(self, indices: Sequence[int]) -> Tensor:
        return self.source.take(indices)


def renumber_classes(source: ImageSource, names: Sequence[str] | None) -> ImageSource:
    """Return a source with its classes numbered as in `names`, by their own names.

    A folder of class folders numbers its classes by what is there: without the folder of class 0, class 1 is
    its first. Classes that are not in `names` come after those that are. A source without class names, or
    with none of these, stays as it is: its numbers are all that is known.

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
    all_names = [*names, *(name for name in source.class_names if name not in names)]
    numbers = torch.tensor([all_names.index(name) for name in source.class_names])
    return _Renumbered(source, numbers[source.labels], all_names)
