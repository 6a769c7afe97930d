"""The reports and the evaluations below a folder."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from html import escape, unescape
from pathlib import Path
from typing import Any

from snowmelt.errors import InputError
from snowmelt.studio.below import changed, files_below

__all__ = ["evaluations", "find_reports", "frame"]

HEAD = 4096  # bytes in which the title of a page stands
MOST = 64 * 2**20  # bytes of a report


def find_reports(root: Path) -> dict[str, str]:
    """Return the reports below a folder, the newest first: the path of each, with its title."""
    paths = sorted(files_below(root, "report.html"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return {
        path.relative_to(root).as_posix(): _title(path, path.stat().st_mtime_ns) or path.stem
        for path in paths
    }


def frame(report: Path) -> str:
    """Return a report as HTML, in a frame in which it can run nothing, load nothing and leave nothing.

    Raises:
        InputError: it is too large for a page.
    """
    if (size := report.stat().st_size) > MOST:
        raise InputError(f"{report} has {size:,} bytes, too many for this page: open it in a browser")
    page = escape(report.read_text(encoding="utf-8", errors="replace"))
    return f'<iframe class="report" title="{escape(report.name)}" sandbox srcdoc="{page}"></iframe>'


def evaluations(root: Path) -> list[list[str]]:
    """Return a header, and a row for each ``metrics.json`` below a folder: its metrics with their intervals.

    The newest is the first one; without any there is no row.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(files_below(root, "metrics.json"), key=changed, reverse=True):
        if metrics := _metrics(path, changed(path)):
            found[path.parent.relative_to(root).as_posix()] = metrics
    names = list(dict.fromkeys(name for metrics in found.values() for name in metrics))
    rows = [[folder, *(metrics.get(name, "") for name in names)] for folder, metrics in found.items()]
    return [["evaluation", *names], *rows]


@lru_cache(maxsize=1000)
def _title(report: Path, stamp: int) -> str:
    try:
        with report.open("rb") as file:
            head = file.read(HEAD).decode(errors="replace")
    except OSError:
        return report.stem
    found = re.search(r"<title>(.*?)</title>", head, re.DOTALL)
    return unescape(found[1]).strip() if found is not None else report.stem


@lru_cache(maxsize=1000)
def _metrics(path: Path, stamp: int) -> dict[str, str]:
    """Return the metrics of an evaluation in words; none of another file of that name."""
    try:
        overall = json.loads(path.read_text(encoding="utf-8"))["overall"]
        return {
            name: f"{each['value']:.3g} ({each['low']:.3g} to {each['high']:.3g})"
            for name, each in overall.items()
            if each["value"] is not None
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
