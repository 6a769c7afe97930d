"""What lies beside the images in every format: one picture of many, and a list of what they are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch

from snowmelt.files import atomic_write
from snowmelt.formats.writer import Sample, Writer
from snowmelt.images import from_uint8, save_grid

__all__ = ["GRID_NAME", "LABELS_NAME", "write_grid", "write_labels"]

GRID_NAME = "generated_samples.png"
LABELS_NAME = "labels.csv"


def write_grid(
    samples: Sequence[Sample], folder: Path, nrow: int, class_names: Sequence[str] | None = None
) -> Path:
    """Write samples as one picture, ``generated_samples.png``, and return its path.

    Args:
        samples: one or more, of one shape.
        folder: where.
        nrow: images in a row, >= 1.
        class_names: what stands above an image of each class; None for its number. Images without a class
            have no captions.
    """
    labels = [sample.class_label for sample in samples]
    captions = [
        "" if label is None else str(label) if class_names is None else class_names[label] for label in labels
    ]
    images = from_uint8(torch.stack([sample.image for sample in samples]))
    path = folder / GRID_NAME
    save_grid(images, path, nrow=nrow, captions=captions if any(captions) else None)
    return path


def write_labels(writer: Writer, class_labels: Sequence[int] | None, seeds: Sequence[int]) -> Path:
    """Write ``labels.csv`` beside a job's images, and return its path.

    A line an image, in order: the file that holds it (relative to the folder), its class (a number; empty
    for an unconditional model) and its seed.
    """
    labels: Sequence[int | None] = class_labels if class_labels is not None else [None] * len(seeds)
    path = writer.folder / LABELS_NAME
    with atomic_write(path, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "class", "seed"])
        for index, (label, seed) in enumerate(zip(labels, seeds, strict=True)):
            table.writerow([writer.location(index, label), label, seed])
    return path
