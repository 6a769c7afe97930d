"""Samples as files: a PNG each, one grid, and a list of what they are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from snowmelt.files import atomic_write
from snowmelt.images import save_grid, save_png

__all__ = ["write_grid", "write_individual", "write_labels"]


def sample_name(index: int) -> str:
    """Return the file name of sample `index`.

    >>> sample_name(7)
    'sample_0007.png'
    """
    return f"sample_{index:04d}.png"


def write_individual(samples: Tensor, folder: Path) -> None:
    """Write each of `samples` (N, C, H, W) in [-1, 1] as ``sample_0000.png``, ``sample_0001.png``, ..."""
    for index, sample in enumerate(samples):
        save_png(sample, folder / sample_name(index))


def write_grid(samples: Tensor, folder: Path, nrow: int) -> Path:
    """Write all `samples` as one picture, ``generated_samples.png``, `nrow` to a row, and return its path."""
    path = folder / "generated_samples.png"
    save_grid(samples, path, nrow=nrow)
    return path


def write_labels(folder: Path, class_labels: Sequence[int] | None, seeds: Sequence[int]) -> None:
    """Write ``labels.csv``: file, class (empty for an unconditional model) and seed of each sample."""
    classes = class_labels if class_labels is not None else [""] * len(seeds)
    with atomic_write(folder / "labels.csv", "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "class", "seed"])
        for index, (label, seed) in enumerate(zip(classes, seeds, strict=True)):
            table.writerow([sample_name(index), label, seed])
