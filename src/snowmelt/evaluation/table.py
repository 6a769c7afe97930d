"""Figures as a text for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from snowmelt.evaluation.uncertainty import Figure

__all__ = ["figures_table", "grouped", "text_table"]

DIGITS = 4


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns: the first to the left, the others to the right.

    >>> print(text_table([["metric", "value"], ["fid", "1.5"]]))
    metric  value
    fid       1.5
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def figures_table(overall: Mapping[str, Figure], per_class: Mapping[str, Mapping[str, Figure]]) -> str:
    """Return figures with their intervals, then a line a class, then what must be known about them.

    >>> print(figures_table({"fid": Figure(1.5, 1.0, 2.0, 0.25, 5000, None, "a note")}, {}))
    metric  value   95 % interval
    fid       1.5       1 to 2
    <BLANKLINE>
    a note: fid
    """
    parts = []
    if overall:
        parts.append(
            text_table(
                [
                    ["metric", "value", "95 % interval"],
                    *(
                        [name, number(each.value), f"{number(each.low)} to {number(each.high)}"]
                        for name, each in overall.items()
                    ),
                ]
            )
        )
    if per_class:
        metrics = list(dict.fromkeys(name for figures in per_class.values() for name in figures))
        rows = [["class", "images", *metrics]]
        for label, figures in per_class.items():
            cells = [with_half_interval(figures[name]) if name in figures else "-" for name in metrics]
            rows.append([label, _counts(figures.values()), *cells])
        parts.append(text_table(rows) + "\n(+- half the 95 % interval; images: generated / real)")
    notes = [(note, name) for name, each in overall.items() for note in each.note.split("; ") if note]
    if notes:
        parts.append("\n".join(grouped(notes)))
    return "\n\n".join(parts)


def grouped(statements: Iterable[tuple[str, str]]) -> list[str]:
    """Return each text once, with all that it is said of.

    >>> grouped([("too few", "fid"), ("k = 3", "recall"), ("too few", "kid")])
    ['too few: fid, kid', 'k = 3: recall']
    """
    said: dict[str, list[str]] = {}
    for text, of in statements:
        said.setdefault(text, []).append(of)
    return [f"{text}: {', '.join(of)}" for text, of in said.items()]


def number(value: float) -> str:
    """Return a number for people, with four digits that mean something.

    >>> number(12345.678), number(0.000123456), number(0.5)
    ('12346', '0.0001235', '0.5')
    """
    if not math.isfinite(value):
        return str(value)
    places = 0 if value == 0 else max(0, DIGITS - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def with_half_interval(each: Figure) -> str:
    """Return a figure with half of its interval's width, to as many places as that has two digits.

    >>> with_half_interval(Figure(1.23456, 1.0, 1.5, 0.1, 10, 10))
    '1.23+-0.25'
    """
    half = (each.high - each.low) / 2
    if not (math.isfinite(half) and half > 0):
        return number(each.value)
    places = min(8, max(0, 1 - math.floor(math.log10(half))))
    return f"{each.value:.{places}f}+-{half:.{places}f}"


def _counts(figures: Iterable[Figure]) -> str:
    figures = list(figures)
    if not figures:
        return "-"
    real = next((each.n_real for each in figures if each.n_real is not None), None)
    return f"{figures[0].n_generated} / {real if real is not None else '?'}"
