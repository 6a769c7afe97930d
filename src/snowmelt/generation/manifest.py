"""What a folder of generated images is: one JSON file that says how they were made, and how far it has come.

identity     everything that decides a byte: the job may go on only where all of it is the same
arguments    the resolved configuration, for people
status       "running" or "complete"
runs         when each start began, how many images it made, in how many seconds, and what was expected
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from snowmelt.errors import InputError
from snowmelt.files import atomic_write

__all__ = ["NAME", "differences", "file_hash", "read_manifest", "write_manifest"]

NAME = "manifest.json"
_ABSENT = object()


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """Return a folder's manifest, or None where there is none.

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
        raise InputError(f"{path} is no manifest of generated images: take another folder, or --overwrite")
    return manifest


def write_manifest(folder: str | Path, manifest: Mapping[str, Any]) -> None:
    """Write a folder's manifest, whole or not at all."""
    with atomic_write(Path(folder) / NAME, "w") as file:
        json.dump(manifest, file, indent=1)
        file.write("\n")


def differences(here: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return a line for each value in which two nested dictionaries differ.

    >>> differences({"plan": {"nfe": 4}, "seed": 0}, {"plan": {"nfe": 8}, "seed": 0})
    ['plan.nfe: 4 there, 8 now']
    """
    there, now = dict(_leaves(here)), dict(_leaves(wanted))
    return [
        f"{key}: {_shown(there.get(key, _ABSENT))} there, {_shown(now.get(key, _ABSENT))} now"
        for key in [*there, *(key for key in now if key not in there)]
        if there.get(key, _ABSENT) != now.get(key, _ABSENT)
    ]


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _leaves(tree: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{parent}{name}.")
        else:
            yield parent + name, value


def _shown(value: Any) -> str:
    text = "nothing" if value is _ABSENT else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
