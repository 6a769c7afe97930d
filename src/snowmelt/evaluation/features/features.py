"""The features of a set of images: what every metric takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snowmelt.evaluation.features.moments import Moments
from snowmelt.files import atomic_write

__all__ = ["Features", "read_array", "write_array"]


@dataclass(frozen=True, eq=False)
class Features:
    """One feature vector for each image, with what else is known about the images.

    Attributes:
        values: (N, D), floating, finite.
        labels: (N,) int64 classes, or None.
        probabilities: (N, K) of a classifier, rows that sum to 1, or None; the inception score needs them.
        class_names: names of the classes 0, 1, ..., or None.
        store: the stem of the files that keep what metrics compute from these features alone, such as
            ``cache/1a2b``. It must belong to these features only. None keeps the results in memory.

    Raises:
        ValueError: the shapes do not fit, or a value is not finite.

    >>> features = Features(torch.randn(6, 4), labels=torch.tensor([0, 0, 1, 1, 1, 2]))
    >>> len(features), len(features.of_class(1))
    (6, 3)
    """

    values: Tensor
    labels: Tensor | None = None
    probabilities: Tensor | None = None
    class_names: list[str] | None = None
    store: Path | None = None
    _derived: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or not self.values.is_floating_point():
            raise ValueError(
                f"features are a floating tensor (N, D), got {self.values.dtype} {tuple(self.values.shape)}"
            )
        # A sum is finite only if all of it is, and needs no mask as large as the features
        if len(self) and not bool(self.values.sum(dim=1, dtype=torch.float64).isfinite().all()):
            raise ValueError("the features hold NaN or infinity: look at the images or at the extractor")
        for name, given in (("labels", self.labels), ("probabilities", self.probabilities)):
            if given is not None and len(given) != len(self):
                raise ValueError(f"{len(self)} features have {len(given)} {name}: give one for each image")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """D, the number of features of an image."""
        return self.values.shape[1]

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance, computed once."""
        rows = self.derived("moments", lambda: _rows(Moments.of(self.values))).cpu().numpy()
        return Moments(len(self), rows[0], rows[1:])

    def derived(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """Return what `compute` makes of these features, computed once.

        Args:
            name: of the quantity and of everything else that it depends on.
            compute: called if the result is neither in memory nor in the store.
        """
        if name not in self._derived:
            path = self.store.with_name(f"{self.store.name}.{name}.npy") if self.store is not None else None
            found = read_array(path) if path is not None else None
            if found is None:
                found = compute()
                if path is not None:
                    write_array(path, found)
            self._derived[name] = found.to(self.values.device)
        return self._derived[name]

    def of_class(self, label: int) -> Features:
        """Return the features of the images of one class.

        Raises:
            ValueError: there are no labels.
        """
        if self.labels is None:
            raise ValueError("the images have no labels, so no class can be chosen")
        return self.take((self.labels == label).nonzero().flatten())

    def take(self, rows: Tensor) -> Features:
        """Return the features of some of the images, by their indices."""
        labels, probabilities = (
            each[rows] if each is not None else None for each in (self.labels, self.probabilities)
        )
        return Features(self.values[rows], labels, probabilities, self.class_names)


def read_array(path: Path) -> Tensor | None:
    """Return the tensor in a file of `write_array`; None if it is missing or damaged."""
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return None


def write_array(path: Path, values: Tensor) -> None:
    """Write a tensor as a NumPy file, whole or not at all."""
    with atomic_write(path) as file:
        np.save(file, values.cpu().numpy())


def _rows(moments: Moments) -> Tensor:
    """Return the mean above the covariance, (1 + D, D)."""
    return torch.from_numpy(np.vstack([moments.mean, moments.covariance]))
