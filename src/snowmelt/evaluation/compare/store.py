"""Finished cells on the disk.

    cells/<hash>/features.npy     of the cell's images
    cells/<hash>/pictures.png     some of the images, side by side
    cells/<hash>/cell.json        its identity and seconds; written last, so that it stands for all three
    cells/<hash>/scores.json      its metrics, with all that they were measured by

The hash is that of the cell's identity and of the extractor. Other settings have another hash, so nothing is
overwritten, and a return to earlier settings finds its cells again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from snowmelt.digest import content_digest
from snowmelt.evaluation.answers.scores import Scores
from snowmelt.evaluation.compare.cell import Cell, CellImages
from snowmelt.evaluation.features.features import read_array, write_array
from snowmelt.files import atomic_write
from snowmelt.images import decode_png, encode_png
from snowmelt.json_files import write_json

__all__ = ["clear", "kept_precision", "read_images", "read_scores", "write_images", "write_scores"]

CELLS = "cells"


def kept_precision(folder: Path) -> str | None:
    """Return the precision of a finished cell; None if there is no cell."""
    for path in sorted(folder.glob(f"{CELLS}/*/cell.json")):
        with suppress(OSError, ValueError, KeyError):
            precision: str = json.loads(path.read_text(encoding="utf-8"))["identity"]["precision"]
            return precision
    return None


def read_images(folder: Path, cell: Cell, extractor: str) -> CellImages | None:
    """Return a finished cell; None if it is missing or damaged."""
    place = _place(folder, cell, extractor)
    features = read_array(place / "features.npy")
    try:
        facts = json.loads((place / "cell.json").read_text(encoding="utf-8"))
        strip, _ = decode_png((place / "pictures.png").read_bytes())
        pictures = torch.stack(strip.chunk(facts["pictures"], dim=-1))
        return CellImages(features, facts["seconds"], pictures) if features is not None else None
    except (OSError, ValueError, KeyError):
        return None


def write_images(folder: Path, cell: Cell, extractor: str, images: CellImages) -> None:
    """Keep a finished cell."""
    place = _place(folder, cell, extractor)
    write_array(place / "features.npy", images.features)
    with atomic_write(place / "pictures.png") as file:
        file.write(encode_png(torch.cat(list(images.pictures), dim=-1)))
    facts = {"identity": {**cell.identity, "extractor": extractor}, "seconds": images.seconds}
    write_json(place / "cell.json", {**facts, "pictures": len(images.pictures)})


def read_scores(folder: Path, cell: Cell, measured_by: Mapping[str, Any]) -> Scores | None:
    """Return a cell's metrics; None if they were not measured in this way."""
    place = _place(folder, cell, measured_by["extractor"])
    try:
        known = json.loads((place / "scores.json").read_text(encoding="utf-8"))
        return Scores.from_dict(known["scores"]) if known["measured_by"] == measured_by else None
    except (OSError, ValueError, KeyError):
        return None


def write_scores(folder: Path, cell: Cell, measured_by: Mapping[str, Any], scores: Scores) -> None:
    """Keep a cell's metrics."""
    place = _place(folder, cell, measured_by["extractor"])
    write_json(place / "scores.json", {"measured_by": measured_by, "scores": scores})


def clear(folder: Path) -> None:
    """Remove all cells that are kept in a folder, and nothing else."""
    shutil.rmtree(folder / CELLS, ignore_errors=True)


def _place(folder: Path, cell: Cell, extractor: str) -> Path:
    return folder / CELLS / content_digest(cell.identity, extractor)[:32]
