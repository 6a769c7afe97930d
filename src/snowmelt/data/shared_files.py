"""Files of decoded images in the user's cache, which all runs and processes share.

An array is named by the contents of its images: a copied folder finds it again, and an image that changed in
any way does not. To know the contents, all files have to be read. So an index of each place (a folder and a
shape, say) remembers them, and holds as long as no file was touched. An index that no run has used for 30
days goes, and an array goes with the last index that names it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from snowmelt.digest import content_digest
from snowmelt.files import atomic_write, user_cache
from snowmelt.formats import ImageSource
from snowmelt.formats.file_source import PREPARATION
from snowmelt.images import Shape

__all__ = ["find", "find_or_make", "folder"]

KEPT = 30 * 24 * 3600.0  # seconds after its last use, until an index goes


def folder() -> Path:
    """Return where the files lie."""
    return (user_cache() / "images").absolute()


def find(images: ImageSource, shape: Shape) -> Path | None:
    """Return the array of some images; None if it is not there, or if a file was touched since."""
    stamp, array = _read(_index(images, shape))
    path = folder() / f"{array}.npy"
    return path if stamp == content_digest(images.stamp()) and path.exists() else None


def find_or_make(images: ImageSource, shape: Shape, make: Callable[[Path], None]) -> Path:
    """Return the array of some images, which the first process that comes here makes.

    Args:
        images: in files.
        shape: of the array.
        make: writes it, whole or not at all.
    """
    index = _index(images, shape)
    index.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(index.with_suffix(".lock")):
        if (path := find(images, shape)) is not None:
            os.utime(index)  # it is in use
            return path
        stamp, array = content_digest(images.stamp()), images.content_hash()[:32]
        with atomic_write(index, "w") as file:
            json.dump({"place": images.place, "stamp": stamp, "array": array}, file)
        if not (path := folder() / f"{array}.npy").exists():
            make(path)
        _tidy()
        return path


def _index(images: ImageSource, shape: Shape) -> Path:
    return folder() / f"{content_digest(images.place, shape, PREPARATION)[:16]}.json"


def _read(index: Path) -> tuple[str, str]:
    """Return the stamp and the array of an index, empty where there is none."""
    with suppress(OSError, ValueError):
        match json.loads(index.read_text(encoding="utf-8")):
            case {"stamp": str(stamp), "array": str(array)}:
                return stamp, array
    return "", ""


def _tidy() -> None:
    """Remove indexes that nobody has used for long, and arrays that no index names."""
    named = set()
    for index in folder().glob("*.json"):
        with suppress(OSError):  # another process was faster
            if time.time() - index.stat().st_mtime < KEPT:
                named.add(_read(index)[1])
            else:
                index.unlink()
    for array in folder().glob("*.npy"):
        if array.stem not in named:
            with suppress(OSError):  # Windows keeps a file that is in use
                array.unlink()
