"""What lies beside the images of a job in every format: ``labels.csv``, and a picture of many of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.formats.writer import Writer

__all__ = ["GRID_NAME", "LABELS_NAME", "read_labels", "write_labels"]

GRID_NAME = "generated_samples.png"
LABELS_NAME = "labels.csv"


def write_labels(writer: Writer) -> Path:
    """Write ``labels.csv`` beside a job's images, and return its path.

    It has one line for each image, in order: the file that holds it (relative to the folder), its class (a
    number; empty for an unconditional model) and its seed.
    """
    path = writer.folder / LABELS_NAME
    labels: Sequence[int | None] = writer.class_labels or [None] * writer.num_samples
    with atomic_write(path, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "class", "seed"])
        for index, (label, seed) in enumerate(zip(labels, writer.seeds, strict=True)):
            table.writerow([writer.location(index), label, seed])
    return path


def read_labels(folder: Path) -> tuple[list[Path], list[int | None]]:
    """Return the files and the classes that a folder's ``labels.csv`` lists.

    Raises:
        InputError: the list cannot be read, or a file that it names is missing.
    """
    table = folder / LABELS_NAME
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        paths = [folder / row["file"] for row in rows]
        labels = [int(row["class"]) if row["class"] else None for row in rows]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{table} cannot be read ({error!r}): it needs the columns file and class, or remove it"
        ) from error
    if missing := next((path for path in paths if not path.exists()), None):
        raise InputError(f"{table} lists {missing.name}, which is missing: generate it, or remove the list")
    return paths, labels
