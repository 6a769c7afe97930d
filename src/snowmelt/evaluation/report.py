"""A report for people: one HTML file that opens from the disk, with its pictures inside and nothing loaded.

A report is a list of sections, and a section a list of texts, tables and pictures. Everything that is
written into the page is escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from os import PathLike

from snowmelt.evaluation.evaluate import Evaluation
from snowmelt.evaluation.metrics import Figure
from snowmelt.evaluation.novelty import Novelty
from snowmelt.evaluation.table import grouped
from snowmelt.evaluation.usefulness import Usefulness
from snowmelt.files import atomic_write

__all__ = [
    "INTERVALS",
    "Block",
    "Picture",
    "Section",
    "Table",
    "evaluation_section",
    "figure_notes",
    "novelty_section",
    "usefulness_section",
    "with_interval",
    "write_html_report",
]


@dataclass(frozen=True)
class Table:
    """Rows of texts.

    Attributes:
        caption: what it shows.
        header: a name for each column.
        rows: the first entry of each names the row.
        marked: indices of rows that stand out.
        notes: what must be known about the numbers.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: Collection[int] = frozenset()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """An image.

    Attributes:
        png: the bytes of a PNG file.
        alt: what it shows, for those who do not see it.
        caption: what stands below it.
    """

    png: bytes = field(repr=False)
    alt: str
    caption: str


Block = str | Table | Picture

INTERVALS = "with 95 % intervals in brackets"


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; a text is a paragraph."""

    title: str
    blocks: Sequence[Block]


def write_html_report(
    path: str | PathLike[str], title: str, sections: Sequence[Section], facts: Mapping[str, str] | None = None
) -> None:
    """Write a report as one HTML file, whole or not at all.

    Args:
        path: the file.
        title: of the page.
        sections: from top to bottom.
        facts: what was done to what, listed below the title.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "report.html"
    ...     write_html_report(path, "A < B", [Section("Why", ["Because."])])
    ...     "<h1>A &lt; B</h1>" in path.read_text()
    True
    """
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    template = environment.from_string(
        resources.files("snowmelt.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    )
    page = template.render(title=title, sections=sections, facts=facts or {})
    with atomic_write(path, "w") as file:
        file.write(page)


def evaluation_section(evaluation: Evaluation) -> Section:
    """Return the figures of a set of images, overall and by class: is it good."""
    rows = [[name, with_interval(each), *_counts(each)] for name, each in evaluation.overall.items()]
    notes = [*figure_notes([evaluation.overall]), *(f"Left out: {text}" for text in evaluation.omitted)]
    blocks = [Table(f"All images, {INTERVALS}", ["metric", "value", "generated", "real"], rows, notes=notes)]
    if evaluation.per_class:
        metrics = list(dict.fromkeys(name for figures in evaluation.per_class.values() for name in figures))
        rows = [
            [label, *(with_interval(figures.get(name)) for name in metrics)]
            for label, figures in evaluation.per_class.items()
        ]
        blocks.append(Table(f"Class by class, {INTERVALS}", ["class", *metrics], rows))
    return Section("Is it good", blocks)


def novelty_section(results: Mapping[str, Novelty], closest: bytes | None = None) -> Section:
    """Return what generated images owe to training images: is it new.

    Args:
        results: by the name of the space, such as ``features`` and ``pixels``.
        closest: the PNG file of `closest_pairs_picture`.
    """
    rows = [
        [
            space,
            *(
                with_interval(each, 100)
                for each in (found.copy_rate, found.held_out_rate, found.duplicate_rate)
            ),
        ]
        for space, found in results.items()
    ]
    quantile = next(iter(results.values())).quantile
    blocks: list[Block] = [
        f"A generated image counts as a copy if it is nearer to a training image than all but "
        f"{100 * quantile:g} % of the held-out real images are. A model that invents has about that rate.",
        Table(
            f"Percent of images, {INTERVALS}",
            ["space", "copies", "held-out real images", "duplicates among the generated"],
            rows,
        ),
    ]
    if closest is not None:
        caption = "The closest pairs: generated images, each above its nearest training image."
        blocks.append(Picture(closest, caption, caption))
    return Section("Is it new", blocks)


def usefulness_section(result: Usefulness) -> Section:
    """Return what a classifier learns from generated images: is it useful."""
    columns = [*result.accuracy.values(), result.gain]
    images = [result.real_images, result.generated_images]
    rows = [
        _percents("all", (sum(each.values()) for each in images), (each.overall for each in columns)),
        *(
            _percents(name, (each[name] for each in images), (each.per_class[name] for each in columns))
            for name in result.gain.per_class
        ),
    ]
    rarest = 1 + list(result.gain.per_class).index(result.rarest)
    return Section(
        "Is it useful",
        [
            f"Does augmentation help the rarest class? {result.answer()}",
            Table(
                "Percent of held-out real images that a classifier recognises, by what it was trained on "
                f"({len(result.seeds)} trainings of {result.steps:,} steps each), {INTERVALS}",
                ["class", "real images", "generated images", *result.accuracy, "gain: both - real"],
                rows,
                [rarest],
            ),
        ],
    )


def with_interval(each: Figure | None, scale: float = 1.0) -> str:
    """Return a figure for people, with its interval in brackets, or a dash for none.

    >>> with_interval(Figure(0.12346, 0.1, 0.15, 0.01, 10, 10), scale=100), with_interval(None)
    ('12.3 (10.0, 15.0)', '–')
    """
    if each is None:
        return "–"
    value, low, high = (scale * part for part in (each.value, each.low, each.high))
    # As many places as half of the interval has two digits
    places = min(8, max(0, 1 - math.floor(math.log10((high - low) / 2)))) if high > low else 3
    return f"{value:.{places}f} ({low:.{places}f}, {high:.{places}f})"


def figure_notes(sets: Iterable[Mapping[str, Figure]]) -> list[str]:
    """Return what must be known about figures by metric, each note once."""
    notes = {
        (note, name): None
        for figures in sets
        for name, each in figures.items()
        for note in each.note.split("; ")
        if note
    }
    return grouped(notes)


def _counts(each: Figure) -> list[str]:
    return [f"{each.n_generated:,}", "–" if each.n_real is None else f"{each.n_real:,}"]


def _percents(name: str, images: Iterable[int], figures: Iterable[Figure]) -> list[str]:
    return [name, *(f"{count:,}" for count in images), *(with_interval(each, 100) for each in figures)]
