"""What a notebook shows of a value: pieces of HTML in the notebook's own style, everything escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["html_facts", "html_list", "html_picture", "html_table"]

SCROLLED = "max-height: 32em; overflow: auto"  # a long table does not push the rest of the notebook away


def html_table(rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return rows as a table; the first one is its header.

    >>> html_table([["t"], ["<1"]]).partition("<table>")[2]
    '<tr><th>t</th></tr><tr><td>&lt;1</td></tr></table></div>'
    """
    header, *others = rows
    lines = [_row("th", header), *(_row("td", row) for row in others)]
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div style="{SCROLLED}"><table>{title}{"".join(lines)}</table></div>'


def html_facts(title: str, facts: Mapping[str, object]) -> str:
    """Return a title and what is known under it, without what is None.

    >>> html_facts("Method", {"steps": 8, "grid": None})
    '<strong>Method</strong><table><tr><th style="text-align: left">steps</th><td>8</td></tr></table>'
    """
    lines = [
        f'<tr><th style="text-align: left">{escape(name)}</th><td>{escape(str(value))}</td></tr>'
        for name, value in facts.items()
        if value is not None
    ]
    return f"<strong>{escape(title)}</strong><table>{''.join(lines)}</table>"


def html_list(sentences: Sequence[str]) -> str:
    """Return sentences one below the other.

    >>> html_list(["KID < 0.1"])
    '<ul><li>KID &lt; 0.1</li></ul>'
    """
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in sentences)}</ul>" if sentences else ""


def html_picture(png: bytes, alt: str) -> str:
    """Return a picture whose bytes are in the page; `alt` says what it shows."""
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" style="max-width: 100%"/>'


def _row(cell: str, texts: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{escape(text)}</{cell}>' for text in texts)}</tr>"
