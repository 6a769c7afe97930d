"""What lies beside the images of a job in every format: ``labels.csv``, and a picture of many of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.formats.writer import Writer
from snowmelt.images import OVERVIEW

__all__ = ["GRID_NAME", "LABELS_NAME", "read_labels", "write_labels"]

GRID_NAME = OVERVIEW
LABELS_NAME = "labels.csv"
MOST_CLASSES = 2**20  # each of them gets a name


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


def read_labels(folder: Path) -> tuple[list[Path], list[int | None], list[str] | None]:
    """Return the files, their classes and the classes' names that a folder's ``labels.csv`` lists.

    The names are None if the list has none. A class without an image is called ``class`` and its number.

    Raises:
        InputError: the list cannot be read, or a file that it names is missing.
    """
    table = folder / LABELS_NAME
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        paths = [folder / row["file"] for row in rows]
        labels = [_class(row["class"]) if row["class"] else None for row in rows]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{table} cannot be read ({error!r}): it needs the columns file and class, or remove it"
        ) from error
    if missing := next((path for path in paths if not path.exists()), None):
        raise InputError(f"{table} lists {missing.name}, which is missing: generate it, or remove the list")
    pairs = zip(labels, rows, strict=True)
    known = {label: row["class_name"] for label, row in pairs if label is not None and row.get("class_name")}
    names = [known.get(label, f"class {label}") for label in range(max(known) + 1)] if known else None
    return paths, labels, names


def _class(text: str) -> int:
    label = int(text)
    if not 0 <= label < MOST_CLASSES:
        raise ValueError(f"class {label} is not in 0..{MOST_CLASSES - 1}")
    return label
