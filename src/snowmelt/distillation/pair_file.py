"""The pairs of a run in a file, so that a run that is stopped goes on with the same ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.files import atomic_write

__all__ = ["NAME", "read_images", "write_images"]

NAME = "teacher.safetensors"


def write_images(path: Path, images: Tensor, about: Mapping[str, Any]) -> None:
    """Write the teacher's images (N, C, H, W), and what decides them; the noise follows from that."""
    data = save({"images": images.contiguous()}, {"teacher": json.dumps(about, sort_keys=True)})
    with atomic_write(path) as file:
        file.write(data)


def read_images(path: Path, about: Mapping[str, Any]) -> Tensor:
    """Return the images of a file.

    Raises:
        InputError: the file is damaged, or another teacher made its images.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            there = json.loads((file.metadata() or {}).get("teacher", "{}"))
            images: Tensor = file.get_tensor("images")
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): start anew (--overwrite)") from error
    here = json.loads(json.dumps(about))
    changed = [name for name in here if there.get(name) != here[name] and name != "source"]
    if changed:
        said = "; ".join(f"{name}: {there.get(name)} there, {here[name]} now" for name in changed)
        raise InputError(
            f"{path} holds the images of another teacher ({said}). Choose: the settings of before, to go on; "
            "another folder (--out); or --overwrite, to start anew"
        )
    return images
