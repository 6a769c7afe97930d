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

from snowmelt.differences import differences
from snowmelt.errors import InputError
from snowmelt.files import atomic_write

__all__ = ["NAME", "read_images", "write_images"]

NAME = "teacher.safetensors"


def write_images(path: Path, images: Tensor, about: Mapping[str, Any]) -> None:
    """Write the teacher's images (N, C, H, W), and what decides them; the noise follows from that."""
    data = save({"images": images.contiguous()}, {"about": json.dumps(about)})
    with atomic_write(path) as file:
        file.write(data)


def read_images(path: Path, about: Mapping[str, Any]) -> Tensor:
    """Return the images of a file.

    Raises:
        InputError: the file is damaged, or it was made for something else.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            there = json.loads((file.metadata() or {}).get("about", "{}"))
            images: Tensor = file.get_tensor("images")
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): start anew (--overwrite)") from error
    if lines := differences(there, json.loads(json.dumps(about))):
        raise InputError(
            f"{path} was made for another run ({'; '.join(lines)}). Choose: the settings of before, to go "
            "on; another folder (--out); or --overwrite, to start anew"
        )
    return images
