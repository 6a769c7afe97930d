"""A comparison as files: JSON and CSV, pictures, and a report."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snowmelt.errors import InputError
from snowmelt.evaluation.answers.scores import notes
from snowmelt.evaluation.compare.cell import COSTS, Result, cell_names
from snowmelt.evaluation.compare.drawing import draw_matrix, draw_quality
from snowmelt.evaluation.compare.pareto import best, front, sufficient
from snowmelt.evaluation.ladder import Ladder
from snowmelt.files import atomic_write
from snowmelt.json_files import write_json
from snowmelt.report import INTERVALS, Chapter, Picture, Table, write_html_report
from snowmelt.text import listed, number

__all__ = ["comparison_table", "summary", "write_comparison"]

CELL_COLUMNS = ("checkpoint", "sampler", "steps", "guidance_scale", "evaluations", "seconds", "num_samples")
ESTIMATE_COLUMNS = ("value", "low", "high", "std", "n_generated", "n_real")


def write_comparison(
    results: Sequence[Result],
    metrics: Sequence[str],
    folder: str | Path,
    *,
    title: str,
    facts: Mapping[str, str],
    column_names: Sequence[str],
    ladder: Ladder | None = None,
) -> Path:
    """Write results as JSON, CSV, pictures and one HTML report, and return the path of the report.

    Args:
        results: one or more.
        metrics: their names, the most important one first.
        folder: where to write; existing files are replaced.
        title, facts: of the report.
        column_names: of the pictures in the matrix.
        ladder: what the metrics read of real and of spoilt images.

    Raises:
        InputError: none of the metrics could be computed.
    """
    folder = Path(folder)
    metrics = _computed(results, metrics)
    if not metrics:
        raise InputError(f"nothing was measured: {'; '.join(results[0].scores.omitted)}")
    write_json(folder / "results.json", [result.to_dict() for result in results])
    with atomic_write(folder / "results.csv", "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*CELL_COLUMNS, "class", "metric", *ESTIMATE_COLUMNS])
        table.writerows(row for result in results for row in _rows(result))
    plots = []
    for cost, what in COSTS.items():
        path = folder / f"quality_{cost}.png"
        draw_quality(results, metrics, cost, path)
        caption = f"{listed(metrics)} against {what}, with 95 % intervals. The pale line is the Pareto front."
        plots.append(Picture(path.read_bytes(), f"{caption} The table above has the numbers.", caption))
    draw_matrix(results, column_names, folder / "matrix.png")
    caption = "Generated images: a row for each cell, a column for each seed and class."
    matrix = Picture.read(folder / "matrix.png", caption)
    chapters = [
        Chapter("Which one", [summary(results, metrics[0]), comparison_table(results, metrics)]),
        Chapter("Quality against cost", plots),
        Chapter("The same seeds", [matrix]),
    ]
    if ladder is not None:
        chapters.append(Chapter("What the metrics see", [*ladder.warnings(), ladder.table()]))
    if tables := _class_tables(results, metrics):
        chapters.append(Chapter("Class by class", tables))
    write_html_report(folder / "report.html", title, chapters, facts)
    return folder / "report.html"


def summary(results: Sequence[Result], metric: str) -> str:
    """Return in two sentences which cell is best by a metric, and which one is as good for less."""
    winner, enough = best(results, metric), sufficient(results, metric)
    if winner is None or enough is None:
        return f"No cell has the metric {metric}."
    names = dict(zip(map(id, results), _names(results), strict=True))
    text = f"The best {metric} is {winner.scores.overall[metric]}, by {names[id(winner)]}."
    if enough is winner:
        return f"{text} No cell with fewer evaluations has an interval that reaches it."
    return (
        f"{text} The fewest evaluations whose interval reaches it are those of {names[id(enough)]}, with "
        f"{enough.scores.overall[metric]}."
    )


def comparison_table(results: Sequence[Result], metrics: Sequence[str]) -> Table:
    """Return all cells as rows; those on the Pareto front of the first metric are marked."""
    metrics = _computed(results, metrics)
    fronts = {cost: set(map(id, front(results, metrics[0], cost))) for cost in COSTS}
    on_front = [[cost for cost in COSTS if id(result) in fronts[cost]] for result in results]
    rows = [
        [
            name,
            str(result.cell.evaluations),
            number(result.seconds),
            *(str(result.scores.overall.get(metric, "–")) for metric in metrics),
            ", ".join(costs) or "–",
        ]
        for name, result, costs in zip(_names(results), results, on_front, strict=True)
    ]
    omitted = dict.fromkeys(text for result in results for text in result.scores.omitted)
    return Table(
        f"All cells, {INTERVALS}. No other cell beats a marked one in both {metrics[0]} and cost.",
        ["cell", "evaluations", f"seconds for {results[0].num_samples:,}", *metrics, "on the front in"],
        rows,
        [row for row, costs in enumerate(on_front) if costs],
        [*notes(result.scores.overall for result in results), *(f"Left out: {text}" for text in omitted)],
    )


def _computed(results: Sequence[Result], metrics: Sequence[str]) -> list[str]:
    """Return the metrics that some cell has."""
    return [name for name in metrics if any(name in result.scores.overall for result in results)]


def _names(results: Sequence[Result]) -> list[str]:
    return cell_names([result.cell for result in results])


def _class_tables(results: Sequence[Result], metrics: Sequence[str]) -> list[Table]:
    """Return a table of cells and classes for each metric; none without classes."""
    classes = list(dict.fromkeys(name for result in results for name in result.scores.per_class))
    tables = []
    for metric in metrics if classes else ():
        rows = [
            [name, *(str(result.scores.per_class.get(label, {}).get(metric, "–")) for label in classes)]
            for name, result in zip(_names(results), results, strict=True)
        ]
        tables.append(Table(f"{metric}, {INTERVALS}", ["cell", *classes], rows))
    return tables


def _rows(result: Result) -> Iterator[list[Any]]:
    """Yield a row of the CSV for each estimate; the class is empty for those of all images."""
    values = result.to_dict()
    facts = [values[name] for name in CELL_COLUMNS]
    for name, found in {"": values["overall"], **values["per_class"]}.items():
        for metric, each in found.items():
            yield [*facts, name, metric, *(each[column] for column in ESTIMATE_COLUMNS)]
