"""Tables on the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["table"]


def table(rows: Sequence[Sequence[str]], label: str) -> str:
    """Return rows, of which the first one is the header, as an HTML table.

    Args:
        rows: texts; the first entry of each row names it.
        label: what the table shows, for readers who do not see it.

    >>> table([["run", "steps"], ["a<b", "10"]], "runs").count("&lt;")
    1
    """
    header, *body = rows
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(each)}</td>" for each in rest)}</tr>'
        for first, *rest in body
    )
    return (
        f'<div class="wide numbers" role="region" aria-label="{escape(label)}" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
