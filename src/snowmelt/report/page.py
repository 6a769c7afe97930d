"""Reports: one HTML file that opens from the disk. Its pictures are inside, and it loads nothing.

A report is a list of chapters, and a chapter a list of texts, tables and pictures. Everything that is
written into the page is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from os import PathLike
from pathlib import Path

from snowmelt.errors import optional, require
from snowmelt.files import atomic_write
from snowmelt.notebook import html_list, html_table
from snowmelt.text import text_table

__all__ = [
    "INTERVALS",
    "Block",
    "Chapter",
    "Picture",
    "Table",
    "check_report_libraries",
    "write_html_report",
]

INTERVALS = "with 95 % intervals in brackets"


@dataclass(frozen=True)
class Table:
    """Rows of texts.

    Attributes:
        caption: what it shows.
        header: a name for each column.
        rows: the first entry of each row names it.
        marked: indices of rows that stand out.
        notes: what must be known about the numbers.
        alarms: indices of rows that are not to be trusted, in red.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: Collection[int] = frozenset()
    notes: Sequence[str] = ()
    alarms: Collection[int] = frozenset()

    def __str__(self) -> str:
        """Return header and rows in aligned columns."""
        return text_table([self.header, *self.rows])

    def _repr_html_(self) -> str:
        """Return the table with its caption and notes, for a notebook."""
        return html_table([self.header, *self.rows], self.caption) + html_list(self.notes)


@dataclass(frozen=True)
class Picture:
    """An image.

    Attributes:
        png: the bytes of a PNG file.
        alt: what it shows, for readers who do not see it.
        caption: what stands below it.
    """

    png: bytes = field(repr=False)
    alt: str
    caption: str

    @classmethod
    def read(cls, path: Path, caption: str) -> Picture:
        """Return the picture of a PNG file whose caption says all that it shows."""
        return cls(path.read_bytes(), caption, caption)


Block = str | Table | Picture


@dataclass(frozen=True)
class Chapter:
    """A heading and what stands below it; a text is a paragraph."""

    title: str
    blocks: Sequence[Block]


def check_report_libraries(purpose: str) -> None:
    """Raise MissingLibraryError, which names the purpose, if a library that reports need is missing."""
    require("jinja2", "matplotlib", needed_by=purpose, extra="report")


def write_html_report(
    path: str | PathLike[str], title: str, chapters: Sequence[Chapter], facts: Mapping[str, str] | None = None
) -> None:
    """Write a report as one HTML file, whole or not at all.

    Args:
        path: the file.
        title: of the page.
        chapters: from top to bottom.
        facts: listed below the title, by name.

    Raises:
        InputError: jinja2 is not installed.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "report.html"
    ...     write_html_report(path, "A < B", [Chapter("Why", ["Because."])])
    ...     "<h1>A &lt; B</h1>" in path.read_text()
    True
    """
    jinja2 = optional("jinja2", "a report", "report")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    template = environment.from_string(
        resources.files("snowmelt.report").joinpath("page.html").read_text(encoding="utf-8")
    )
    with atomic_write(path, "w") as file:
        file.write(template.render(title=title, chapters=chapters, facts=facts or {}))
