"""Progress bars, and lines for log files."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

__all__ = ["progress"]

SECONDS_BETWEEN_LINES = 60.0  # where the output is not a terminal, such as a log file


def progress(items: Iterable[Any] | None, what: str, *, show: bool = True, **options: Any) -> tqdm[Any]:
    """Return `items` with a bar on standard error: live in a terminal, a line a minute elsewhere.

    Args:
        items: to iterate over; None for a bar that is updated by hand.
        what: stands before the bar.
        show: False shows nothing.
        options: of tqdm (``total``, ``unit``, ``leave``, ``delay``, ...).

    >>> list(progress(range(3), "Counting", show=False))
    [0, 1, 2]
    """
    if not sys.stderr.isatty():
        every = SECONDS_BETWEEN_LINES
        options = {"file": _Lines(), "mininterval": every, "maxinterval": every, **options}
    return tqdm(items, what, disable=not show, **options)


class _Lines(io.TextIOBase):
    """Standard error for a bar that cannot be overwritten: each of its states is a line of its own."""

    def write(self, text: str, /) -> int:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)
        return len(text)
