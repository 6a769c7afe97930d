"""What a training run has logged, read back: the rows of its metrics, and its pictures.

Reading changes no file, so a run may be read while it writes.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from snowmelt.errors import InputError

__all__ = ["METRICS", "Rows", "find_pictures", "read_rows", "read_table"]

METRICS = "metrics.csv"

Row = dict[str, str]
Rows = Sequence[Mapping[str, float]]


def read_table(path: Path) -> tuple[list[str], list[Row]]:
    """Return the columns of a metrics file, and its rows without empty cells.

    A last line without an end is left out: it is being written, or was cut off. Without a file there are
    no columns.
    """
    if not path.exists():
        return [], []
    text = path.read_text(encoding="utf-8")
    reader = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    rows = [{name: value for name, value in row.items() if value} for row in reader]
    return list(reader.fieldnames or ()), rows


def read_rows(path: str | Path) -> list[dict[str, float]]:
    """Return the rows of a run's ``metrics.csv``, in order: ``step``, ``epoch`` and the metrics.

    Raises:
        InputError: the file is no table of numbers.

    >>> from tempfile import TemporaryDirectory
    >>> from snowmelt.training import DiffusionLogger
    >>> with TemporaryDirectory() as folder, DiffusionLogger(folder, tensorboard=False) as logger:
    ...     logger.log_metrics({"train_loss": 0.5}, step=10)
    ...     read_rows(logger.log_dir / METRICS)
    [{'step': 10.0, 'train_loss': 0.5}]
    """
    try:
        _, rows = read_table(Path(path))
        return [{name: float(value) for name, value in row.items()} for row in rows]
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as the metrics of a training run: {error}") from error


def find_pictures(folder: Path, name: str) -> dict[int, Path]:
    """Return the paths of a run's pictures of a name, such as ``samples``, by step."""
    found = folder.glob(f"{name}_{'[0-9]' * 7}.png")
    return {int(path.stem.rpartition("_")[2]): path for path in sorted(found)}
