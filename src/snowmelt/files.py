"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

__all__ = ["atomic_folder", "atomic_write", "remove_leftovers"]

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file that becomes `path` when the block ends, and vanishes if it raises.

    The data is on the disk before the name is: whoever looks finds the old file or the new one, never half
    of either. Missing folders are made.

    Args:
        path: the file to write or replace.
        mode: ``"wb"``, ``"w+b"`` or ``"w"`` (UTF-8, line ends as written).

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "new" / "note.txt"
    ...     with atomic_write(path, "w") as file:
    ...         _ = file.write("whole")
    ...     path.read_text()
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    # Opened as any file is, rather than by tempfile, so that its permissions are the usual ones
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        with temporary.open(mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a temporary folder that becomes `path` when the block ends, and vanishes if it raises.

    Args:
        path: the folder to make, or to replace with all that is in it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as parent:
    ...     path = Path(parent) / "model"
    ...     with atomic_folder(path) as folder:
    ...         _ = (folder / "note.txt").write_text("whole")
    ...     [file.name for file in path.iterdir()]
    ['note.txt']
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    new, old = (path.with_name(f".{uuid4().hex}.{kind}") for kind in ("new", "old"))
    try:
        new.mkdir()
        yield new
        for file in new.rglob("*"):
            _sync(file)
        _sync(new)
        if path.exists():
            path.rename(old)
        new.rename(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists():
            old.rename(path)
        raise
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files that a killed `atomic_write` left in `folder` and in the folders below.

    Nobody may be writing there.
    """
    for path in Path(folder).rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
