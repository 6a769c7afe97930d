"""Mean and covariance of features: all that FID needs to know about a set of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.formats.file_source import reading

__all__ = ["Moments", "check_same_dim", "is_statistics"]

ROWS = 8192  # converted to float64 at a time


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and covariance of feature vectors, in float64.

    The moments of a union are the sum of the moments of its parts, in any split and order:

    >>> import torch
    >>> features = torch.randn(100, 3)
    >>> parts = Moments.of(features[:30]) + Moments.of(features[30:])
    >>> np.allclose(parts.covariance, Moments.of(features).covariance)
    True

    Attributes:
        count: the number of images; None where a file does not say.
        mean: (D,).
        covariance: (D, D), divided by count - 1.
    """

    count: int | None
    mean: np.ndarray
    covariance: np.ndarray

    @property
    def dim(self) -> int:
        """D, the number of features of an image."""
        return len(self.mean)

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Return the moments of features (N, D), N >= 1. One image alone has covariance 0."""
        if features.ndim != 2 or len(features) == 0:
            raise ValueError(f"moments need features (N, D) with N >= 1, got shape {tuple(features.shape)}")
        return cls.merged(cls._of_few(rows) for rows in features.split(ROWS))

    @classmethod
    def merged(cls, parts: Iterable[Moments]) -> Moments:
        """Return the moments of the union of one or more sets."""
        return reduce(add, parts)

    @classmethod
    def _of_few(cls, features: Tensor) -> Moments:
        # torch multiplies float64 matrices several times as fast as some builds of numpy
        features = features.detach().cpu()
        mean = features.mean(dim=0, dtype=torch.float64)
        rows = features - mean  # float64
        return cls(len(rows), mean.numpy(), (_gram(rows) / max(len(rows) - 1, 1)).numpy())

    def __add__(self, other: Moments) -> Moments:
        """Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm" (1979), for matrices."""
        if self.count is None or other.count is None:
            raise ValueError("these statistics do not state their number of images, so they cannot be merged")
        check_same_dim(self.dim, other.dim)
        count = self.count + other.count
        shift = other.mean - self.mean
        scatter = (self.count - 1) * self.covariance + (other.count - 1) * other.covariance
        scatter += (self.count * other.count / count) * np.outer(shift, shift)
        return Moments(count, self.mean + shift * (other.count / count), scatter / max(count - 1, 1))

    def save(self, path: str | Path) -> None:
        """Write an npz file with ``mu``, ``sigma`` and ``count``, whole or not at all."""
        count: dict[str, Any] = {} if self.count is None else {"count": np.int64(self.count)}
        with atomic_write(path) as file:
            np.savez(file, mu=self.mean, sigma=self.covariance, **count)

    @classmethod
    def load(cls, path: str | Path) -> Moments:
        """Read an npz file with ``mu`` and ``sigma``: ours, pytorch-fid's, clean-fid's, guided-diffusion's.

        Raises:
            InputError: the file is missing, broken, or holds something else.
        """
        with (
            reading(path, "statistics (an npz file with mu (D,) and sigma (D, D) is needed)"),
            Path(path).open("rb") as stream,  # which numpy would leave open where it fails
            np.load(stream, allow_pickle=False) as file,
        ):
            mean, covariance = file["mu"].astype(np.float64), file["sigma"].astype(np.float64)
            count = int(file["count"]) if "count" in file else None
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise InputError(
                f"{path} has mu {mean.shape} and sigma {covariance.shape}: (D,) and (D, D) are needed"
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise InputError(f"{path} holds NaN or infinity in mu or sigma: make the statistics anew")
        return cls(count, mean, covariance)


def is_statistics(path: str | Path) -> bool:
    """Return whether a path is an ``.npz`` file with ``mu`` in place of images."""
    path = Path(path)
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    with reading(path, "an npz file"), ZipFile(path) as file:
        # guided-diffusion's reference batches hold both: images tell more
        return "mu.npy" in file.namelist() and "arr_0.npy" not in file.namelist()


def check_same_dim(first: int, second: int) -> None:
    """Check that two sets of images have the same number of features.

    Raises:
        ValueError: they have not.
    """
    if first != second:
        raise ValueError(
            f"sets with {first} and {second} features for each image cannot be compared: use one extractor "
            "for both, and for pixels one image size"
        )


def _gram(rows: Tensor) -> Tensor:
    """Return rows^T rows, (D, D), without computing one of its two mixed quarters, which are transposes."""
    left, right = rows.tensor_split(2, dim=1)
    mixed = left.T @ right
    upper, lower = torch.cat([left.T @ left, mixed], dim=1), torch.cat([mixed.T, right.T @ right], dim=1)
    return torch.cat([upper, lower])
