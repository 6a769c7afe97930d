"""A set of images, as the metrics see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snowmelt.evaluation.metrics.moments import Moments
from snowmelt.files import atomic_write

__all__ = ["Features"]


@dataclass(frozen=True, eq=False)
class Features:
    """One feature vector an image, with what else is known about the images.

    Attributes:
        values: (N, D), floating, finite.
        labels: (N,) int64 classes, or None.
        probabilities: (N, K) of a classifier, rows that sum to 1, or None; the inception score needs them.
        class_names: of the labels' classes, or None.
        store: the stem of files that keep what metrics compute from these features alone, such as
            ``cache/1a2b``; it must belong to these features and to no others. None keeps it in memory.

    Raises:
        ValueError: shapes or values are not those.

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
                raise ValueError(f"{len(self)} features have {len(given)} {name}: one an image is needed")

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance, computed once."""
        rows = self.derived("moments", lambda: _rows(Moments.of(self.values))).cpu().numpy()
        return Moments(len(self), rows[0], rows[1:])

    def derived(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """Return what `compute` makes of these features, computed once.

        Args:
            name: of the quantity and of everything else that it depends on.
            compute: called where it is neither in memory nor in the store.
        """
        if name not in self._derived:
            path = self.store.with_name(f"{self.store.name}.{name}.npy") if self.store is not None else None
            found = _read(path) if path is not None else None
            if found is None:
                found = compute()
                if path is not None:
                    with atomic_write(path) as file:
                        np.save(file, found.cpu().numpy())
            self._derived[name] = found.to(self.values.device)
        return self._derived[name]

    def of_class(self, label: int) -> Features:
        """Return the images of one class.

        Raises:
            ValueError: there are no labels.
        """
        if self.labels is None:
            raise ValueError("the images have no labels, so none are of a class")
        chosen = self.labels == label
        probabilities = self.probabilities[chosen] if self.probabilities is not None else None
        return Features(self.values[chosen], self.labels[chosen], probabilities, self.class_names)


def _rows(moments: Moments) -> Tensor:
    """Return the mean above the covariance, (1 + D, D)."""
    return torch.from_numpy(np.vstack([moments.mean, moments.covariance]))


def _read(path: Path) -> Tensor | None:
    """Return what is stored; None where there is nothing, or nothing that can be used."""
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return None
