"""Words and tables for terminals."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

__all__ = ["counted", "listed", "number", "shortened", "some", "text_table"]

DIGITS = 4


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
