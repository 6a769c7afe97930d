"""Files and folders that are written whole or not at all, and the hash of a file."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from uuid import uuid4

from snowmelt.errors import InputError

__all__ = [
    "atomic_copy",
    "atomic_folder",
    "atomic_write",
    "check_writable",
    "file_hash",
    "remove_leftovers",
    "user_cache",
]

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Check that files can be written into a folder, which need not exist. It leaves no trace.

    Raises:
        InputError: they cannot; the message says why.
    """
    given, path = Path(folder), Path(folder).absolute()
    nearest = next(each for each in (path, *path.parents) if each.exists())
    try:
        with TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InputError(
            f"{given} cannot be written to ({nearest}: {error.strerror}): take another output folder"
        ) from error


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file that becomes `path` when the block ends, and vanishes if it raises.

    The data is on the disk before the name is: a reader finds the old file or the new one, never half of
    either. Missing folders are made.

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
    # Not by tempfile, whose files have other permissions than usual
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


def atomic_copy(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Copy a file to `path`, whole or not at all."""
    with Path(source).open("rb") as contents, atomic_write(path) as file:
        shutil.copyfileobj(contents, file)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a temporary folder that becomes `path` when the block ends, and vanishes if it raises.

    Args:
        path: the folder to make. A folder that exists already is replaced, with all that is in it.

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


def user_cache() -> Path:
    """Return the folder in the user's cache that keeps what is dear to make and can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snowmelt"


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files that a killed `atomic_write` left in `folder` and in the folders below.

    Call it only while no process writes there.
    """
    for path in Path(folder).rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink()


def file_hash(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
