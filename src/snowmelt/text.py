"""Words and tables for terminals."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

__all__ = ["counted", "duration", "listed", "number", "seconds_in", "shortened", "some", "text_table"]

DIGITS = 4
TIME = re.compile(r"(?:([\d.]+)h)?(?:([\d.]+)m(?:in)?)?(?:([\d.]+)s)?")
UNITS = (3600, 60, 1)  # of its parts, in seconds


def text_table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return rows as aligned columns: the first `left` columns to the left, the others to the right.

    >>> print(text_table([["metric", "value"], ["fid", "1.5"]]))
    metric  value
    fid       1.5
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Return a number and what it counts; without a plural form, the thing's last word gets its usual one.

    >>> counted(1, "image"), counted(1234, "image"), counted(0, "real entry")
    ('1 image', '1,234 images', '0 real entries')
    >>> counted(2, "batch"), counted(2, "epoch"), counted(2, "class")
    ('2 batches', '2 epochs', '2 classes')
    """
    if things is None:
        stem = f"{thing[:-1]}ie" if re.search(r"[^aeiou]y$", thing) else thing
        things = f"{stem}es" if re.search(r"(s|x|tch|sh)$", thing) else f"{stem}s"
    return f"{number:,} {thing if number == 1 else things}"


def listed(parts: Sequence[str]) -> str:
    """Return one or more parts as a sentence lists them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and how many more there are.

    >>> some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def shortened(text: str, longest: int = 100) -> str:
    """Return at most `longest` characters of a text, and dots for the rest.

    >>> shortened("a very long name", 9)
    'a very...'
    """
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def number(value: float) -> str:
    """Return a number with four significant digits, and never with an exponent.

    >>> number(12345.678), number(0.000123456), number(0.5)
    ('12346', '0.0001235', '0.5')
    """
    if not math.isfinite(value):
        return str(value)
    places = 0 if value == 0 else max(0, DIGITS - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(seconds: float) -> str:
    """Return seconds in words, in the largest unit that gives two or more of it.

    >>> duration(0.25), duration(1), duration(100), duration(400), duration(20_000), duration(10**6)
    ('0.25 seconds', '1 second', '100 seconds', '7 minutes', '6 hours', '12 days')
    """
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    text = f"{seconds:.0f}" if seconds >= 2 else f"{seconds:.2g}"
    return "1 second" if text == "1" else f"{text} seconds"


def seconds_in(text: str) -> float:
    """Return the seconds that a length of time such as 90s, 30m, 2h or 1h30m has; spaces do not count.

    Raises:
        ValueError: it is none, or is not above 0.

    >>> seconds_in("30m"), seconds_in("1h 30m"), seconds_in("0.5h"), seconds_in("90s")
    (1800.0, 5400.0, 1800.0, 90.0)
    """
    found = TIME.fullmatch("".join(text.split()).lower())
    try:
        parts = [float(part or 0) for part in found.groups()] if found else []
    except ValueError:  # 1.2.3h
        parts = []
    seconds = sum(part * unit for part, unit in zip(parts, UNITS, strict=False))
    if not 0 < seconds < math.inf:
        raise ValueError(f"a time such as 90s, 30m, 2h or 1h30m, got {shortened(text, 40)!r}")
    return seconds
