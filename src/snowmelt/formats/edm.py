"""``dataset.json``: the classes of a folder's images, as the dataset_tool of StyleGAN and EDM writes them."""

from __future__ import annotations

import json
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.formats.file_source import class_label, reading
from snowmelt.formats.folders import open_tree
from snowmelt.formats.png import ImageFiles
from snowmelt.images import Shape

__all__ = ["open_edm"]

TABLE = "dataset.json"


def open_edm(path: Path, shape: Shape) -> ImageFiles | None:
    """Return the images that a ``dataset.json`` lists; None if there is none, or one of something else.

    It holds ``{"labels": [["00000/img00000000.png", 6], ...]}``, or null for no classes, which makes all
    images of the folder count.

    Args:
        path: the file, or the folder with it.
        shape: what the images are turned into.

    Raises:
        InputError: the file cannot be read, or a row says something impossible; the message says which.
    """
    table = path / TABLE if path.is_dir() else path
    if table.name != TABLE or not table.is_file():
        return None
    with reading(table, "the classes of images"):
        contents = json.loads(table.read_text(encoding="utf-8"))
    if not isinstance(contents, dict) or "labels" not in contents:
        return None
    stated = contents["labels"]
    if stated is None:
        return open_tree(table.parent, shape)
    if not isinstance(stated, list):
        raise InputError(f"{table} has labels that are no list of [file, class]")
    files, labels = [], []
    for number, row in enumerate(stated):
        place = f"{table}, label {number}"
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)):
            raise InputError(f"{place} is {str(row)[:40]}; expected [file, class]")
        file = table.parent / row[0].replace("\\", "/")
        if not file.is_file():
            raise InputError(f"{place} lists {row[0]}, which is missing: add the file, or remove the row")
        files.append(file)
        labels.append(class_label(row[1], place))
    return ImageFiles(path, files, shape, labels)
