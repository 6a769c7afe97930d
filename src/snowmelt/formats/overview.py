"""What lies beside the images of a job in every format: ``labels.csv``, and a picture of many of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from snowmelt.files import atomic_write
from snowmelt.formats.writer import Writer
from snowmelt.images import OVERVIEW

__all__ = ["GRID_NAME", "LABELS_NAME", "write_labels"]

GRID_NAME = OVERVIEW
LABELS_NAME = "labels.csv"


def write_labels(writer: Writer, class_names: Sequence[str] | None = None) -> Path:
    """Write ``labels.csv`` beside a job's images, and return its path.

    It has one line for each image, in order: the file that holds it (relative to the folder), its class (a
    number; empty for an unconditional model), its seed, and the name of its class.

    Args:
        writer: of the job.
        class_names: of the classes 0, 1, ...; None leaves the last column out.
    """
    path = writer.folder / LABELS_NAME
    labels: Sequence[int | None] = writer.class_labels or [None] * writer.num_samples
    with atomic_write(path, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "class", "seed", *(["class_name"] if class_names else [])])
        for index, (label, seed) in enumerate(zip(labels, writer.seeds, strict=True)):
            name = [class_names[label]] if class_names and label is not None else []
            table.writerow([writer.location(index), label, seed, *name])
    return path
