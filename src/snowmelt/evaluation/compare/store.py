"""Finished cells on the disk.

    cells/<hash>/features.npy     of the cell's images
    cells/<hash>/pictures.png     some of them, side by side
    cells/<hash>/cell.json        its identity and seconds: written last, so that it stands for all three
    cells/<hash>/figures.json     its figures, with what they were measured by

The hash is that of the cell's identity and of the extractor. Other settings have another hash: nothing has to
be compared, nothing is overwritten, and to go back to earlier settings costs nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snowmelt.evaluation.compare.cell import Cell, Sampled, identity_hash
from snowmelt.evaluation.evaluate import Evaluation
from snowmelt.files import atomic_write
from snowmelt.images import decode_png, encode_png

__all__ = ["clear", "read_evaluation", "read_sampled", "write_evaluation", "write_sampled"]

CELLS = "cells"


def read_sampled(folder: Path, cell: Cell, extractor: str) -> Sampled | None:
    """Return a finished cell; None where there is none, or none that can be read."""
    place = _place(folder, cell, extractor)
    try:
        facts = json.loads((place / "cell.json").read_text(encoding="utf-8"))
        features = np.load(place / "features.npy", allow_pickle=False)
        strip, _ = decode_png((place / "pictures.png").read_bytes())
        pictures = torch.stack(strip.chunk(facts["pictures"], dim=-1))
        return Sampled(torch.from_numpy(features), facts["seconds"], pictures)
    except (OSError, ValueError, EOFError, KeyError):
        return None


def write_sampled(folder: Path, cell: Cell, extractor: str, sampled: Sampled) -> None:
    """Keep a finished cell."""
    place = _place(folder, cell, extractor)
    with atomic_write(place / "features.npy") as file:
        np.save(file, sampled.features.numpy())
    with atomic_write(place / "pictures.png") as file:
        file.write(encode_png(torch.cat(list(sampled.pictures), dim=-1)))
    facts = {
        "identity": _identity(cell, extractor),
        "seconds": sampled.seconds,
        "pictures": len(sampled.pictures),
    }
    _write_json(place / "cell.json", facts)


def read_evaluation(folder: Path, cell: Cell, measured_by: Mapping[str, Any]) -> Evaluation | None:
    """Return a cell's figures, if they were measured in this way; else None."""
    try:
        known = json.loads(
            (_place(folder, cell, measured_by["extractor"]) / "figures.json").read_text(encoding="utf-8")
        )
        return Evaluation.from_dict(known["evaluation"]) if known["measured_by"] == measured_by else None
    except (OSError, ValueError, KeyError):
        return None


def write_evaluation(
    folder: Path, cell: Cell, measured_by: Mapping[str, Any], evaluation: Evaluation
) -> None:
    """Keep a cell's figures."""
    known = {"measured_by": measured_by, "evaluation": evaluation.to_dict()}
    _write_json(_place(folder, cell, measured_by["extractor"]) / "figures.json", known)


def clear(folder: Path) -> None:
    """Remove all cells that are kept in a folder, and nothing else."""
    shutil.rmtree(folder / CELLS, ignore_errors=True)


def _place(folder: Path, cell: Cell, extractor: str) -> Path:
    return folder / CELLS / identity_hash(_identity(cell, extractor))[:32]


def _identity(cell: Cell, extractor: str) -> dict[str, Any]:
    return {**cell.identity, "extractor": extractor}


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with atomic_write(path, "w") as file:
        json.dump(values, file, indent=1)
        file.write("\n")
