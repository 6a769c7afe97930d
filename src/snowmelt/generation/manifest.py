"""``manifest.json``: how the images in a folder were made, and how far their job has come.

identity     everything that decides a byte: the job goes on only if all of it is the same
arguments    the resolved configuration, for readers
status       "running" or "complete"
runs         of each start: when, how many images it made, in how many seconds, and how many were expected
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snowmelt.errors import InputError
from snowmelt.files import atomic_write

__all__ = ["NAME", "read_manifest", "write_manifest"]

NAME = "manifest.json"


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """Return a folder's manifest, or None if it has none.

    Raises:
        InputError: there is one, but it cannot be read.
    """
    path = Path(folder) / NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): take another folder, or --overwrite") from error
    if not isinstance(manifest, dict) or "identity" not in manifest:
        raise InputError(f"{path} does not describe generated images: take another folder, or --overwrite")
    return manifest


def write_manifest(folder: str | Path, manifest: Mapping[str, Any]) -> None:
    """Write a folder's manifest, whole or not at all."""
    with atomic_write(Path(folder) / NAME, "w") as file:
        json.dump(manifest, file, indent=1)
        file.write("\n")
