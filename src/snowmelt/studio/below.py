"""Files of a name below a folder, found again and again: a folder that did not change is not listed again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

__all__ = ["changed", "files_below"]

# What the page looks for. Other files, such as the images of a data set, are not remembered
NAMES = frozenset({"metrics.csv", "metrics.json", "report.html"})


def files_below(root: Path, name: str) -> Iterator[Path]:
    """Yield the files of a name, one of `NAMES`, in a folder and those below it.

    Links are not followed, and hidden folders are left out.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     (Path(folder) / "run").mkdir()
    ...     _ = (Path(folder) / "run" / "report.html").write_text("")
    ...     [path.relative_to(folder).as_posix() for path in files_below(Path(folder), "report.html")]
    ['run/report.html']
    """
    assert name in NAMES
    try:
        folders, files = _entries(str(root), changed(root))
    except OSError:  # it was removed, or may not be read
        return
    if name in files:
        yield root / name
    for folder in folders:
        yield from files_below(root / folder, name)


def changed(path: Path | None) -> int:
    """Return when a file or folder changed, in nanoseconds; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns if path is not None else 0
    except OSError:
        return 0


@lru_cache(maxsize=100_000)
def _entries(folder: str, stamp: int) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the folders in a folder, and those of its files that have one of `NAMES`.

    Args:
        folder: its path.
        stamp: when it changed; another time makes another entry of the cache.
    """
    with os.scandir(folder) as entries:
        real = [entry for entry in entries if not entry.is_symlink()]
    folders = (entry.name for entry in real if entry.is_dir() and not entry.name.startswith("."))
    return tuple(sorted(folders)), frozenset(entry.name for entry in real if entry.name in NAMES)
