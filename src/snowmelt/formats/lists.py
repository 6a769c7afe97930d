"""Lists of image files: CSV, TSV, JSON and JSONL, one row an image."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snowmelt.errors import InputError
from snowmelt.formats.file_source import numbered, reading
from snowmelt.formats.png import ImageFiles
from snowmelt.images import Shape

__all__ = ["LISTS", "open_list"]

LISTS = (".csv", ".tsv", ".json", ".jsonl")
# What the columns may be called; the first one that is there counts
FILE = ("file", "file_name", "filename", "path", "image")
LABEL = ("label", "class", "class_name")
NAME, PART = ("class_name",), ("split",)
Row = tuple[str, Mapping[str, Any]]  # where it stands, and what it says by its columns


def open_list(path: Path, shape: Shape) -> ImageFiles:
    """Return the images of a list.

    A row names a ``file``, relative to the list; its ``label`` or ``class``, a number or a name; and the part
    that it belongs to, ``split``. Beside numbers, ``class_name`` says what they are called, as in the
    ``labels.csv`` of ``snowmelt generate``. Names are numbered in natural order (2 before 10).

    Raises:
        InputError: the list cannot be read, or a row says something impossible; the message says where.
    """
    with reading(path, f"a list of images ({', '.join(LISTS)})"):
        rows = [(place, row) for place, row in _rows(path) if any(row.values())]
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    file, label, part = (_column(columns, names) for names in (FILE, LABEL, PART))
    if file is None:
        if not rows:
            raise InputError(f"{path} holds no images")
        raise InputError(
            f"{path} cannot be read as a list of images: it has the columns {', '.join(columns)}, and needs "
            f"one of {', '.join(FILE)}"
        )
    files = [_file(path, place, row.get(file)) for place, row in rows]
    labels, names = _classes(rows, label, _column(columns, NAME)) if label is not None else (None, None)
    parts = [str(row.get(part) or "") or None for _, row in rows] if part is not None else None
    return ImageFiles(path, files, shape, labels, names, parts)


def _rows(path: Path) -> Iterator[Row]:
    suffix = path.suffix.lower()
    with path.open(encoding="utf-8-sig", newline="") as file:
        if suffix == ".jsonl":
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _record(json.loads(line), f"{path}, line {number}")
        elif suffix == ".json":
            contents = json.load(file)
            if not isinstance(contents, list):
                raise ValueError("its contents are no list of objects")
            for number, entry in enumerate(contents):
                yield _record(entry, f"{path}, entry {number}")
        else:
            header = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(",;\t", key=header.count), strict=True)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row:
                    raise InputError(f"{where} has more columns than the first line names")
                yield where, row


def _record(entry: object, place: str) -> Row:
    if not isinstance(entry, dict):
        raise InputError(f'{place} is no object such as {{"file": "a.png", "label": 0}}')
    return place, entry


def _column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in columns), None)


def _file(path: Path, place: str, name: object) -> Path:
    if not isinstance(name, str) or not name:
        raise InputError(f"{place} names no file: each row needs one, relative to {path.parent}")
    file = path.parent / name
    if not file.is_file():
        raise InputError(f"{place} lists {name}, which is missing: add the file, or remove the row")
    return file


def _classes(
    rows: Sequence[Row], column: str, name: str | None
) -> tuple[list[int | None] | None, list[str] | None]:
    """Return the class of each row, and the names of the classes if they have some."""
    stated = [_number(row.get(column)) for _, row in rows]
    missing = [place for value, (place, _) in zip(stated, rows, strict=True) if value is None]
    if len(missing) == len(rows):
        return None, None
    if missing:
        classed = f"{len(rows) - len(missing)} of {len(rows)} images have a class"
        raise InputError(f"{missing[0]} states no class, but {classed}; give one to all or none")
    labels, names = numbered(stated, None, [place for place, _ in rows])
    if names is not None:
        return labels, names
    pairs = zip(labels, (row.get(name) if name is not None else None for _, row in rows), strict=True)
    known = {label: str(called) for label, called in pairs if called}
    names = [known.get(label, f"class {label}") for label in range(1 + max(stated))]
    return labels, names if known else None


def _number(value: Any) -> Any:
    """Return the number in a text of digits alone, None for an empty text, and all else as it is."""
    if isinstance(value, str):
        value = value.strip()
        return int(value) if value.isascii() and value.isdecimal() else value or None
    return value
