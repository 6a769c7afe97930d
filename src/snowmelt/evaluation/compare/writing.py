"""A comparison as files: numbers for programs, pictures, and a report for people."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snowmelt.errors import InputError
from snowmelt.evaluation.compare.cell import COSTS, Result
from snowmelt.evaluation.compare.drawing import draw_matrix, draw_quality
from snowmelt.evaluation.compare.naming import cell_names
from snowmelt.evaluation.compare.pareto import best, front, sufficient
from snowmelt.evaluation.report import (
    INTERVALS,
    Picture,
    Section,
    Table,
    figure_notes,
    with_interval,
    write_html_report,
)
from snowmelt.evaluation.table import number
from snowmelt.files import atomic_write

__all__ = ["comparison_table", "summary", "write_comparison"]

CELL_COLUMNS = ("checkpoint", "sampler", "steps", "guidance_scale", "evaluations", "seconds", "num_samples")
FIGURE_COLUMNS = ("value", "low", "high", "std", "n_generated", "n_real")


def write_comparison(
    results: Sequence[Result],
    metrics: Sequence[str],
    folder: str | Path,
    *,
    title: str,
    facts: Mapping[str, str],
    column_names: Sequence[str],
) -> Path:
    """Write results as JSON, CSV, pictures and one HTML report, and return the report's path.

    Args:
        results: one or more.
        metrics: their names, the one that matters most first.
        folder: where; files that are there are replaced.
        title, facts: of the report.
        column_names: of the pictures in the matrix.

    Raises:
        InputError: not one of the metrics could be computed.
    """
    folder = Path(folder)
    metrics = _computed(results, metrics)
    if not metrics:
        raise InputError(f"nothing was measured: {'; '.join(results[0].evaluation.omitted)}")
    with atomic_write(folder / "results.json", "w") as file:
        json.dump([result.to_dict() for result in results], file, indent=1)
        file.write("\n")
    with atomic_write(folder / "results.csv", "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*CELL_COLUMNS, "class", "metric", *FIGURE_COLUMNS])
        table.writerows(row for result in results for row in _rows(result))
    for cost in COSTS:
        draw_quality(results, metrics, cost, folder / f"quality_{cost}.png")
    draw_matrix(results, column_names, folder / "matrix.png")
    write_html_report(folder / "report.html", title, _sections(results, metrics, folder), facts)
    return folder / "report.html"


def summary(results: Sequence[Result], metric: str) -> str:
    """Return in two sentences which cell is best by a metric, and which does as well for less."""
    names = dict(zip(map(id, results), cell_names([result.cell for result in results]), strict=True))
    winner, enough = best(results, metric), sufficient(results, metric)
    if winner is None or enough is None:
        return f"No cell has the metric {metric}."
    text = f"The best {metric} is {with_interval(winner.evaluation.overall[metric])}, by {names[id(winner)]}."
    if enough is winner:
        return f"{text} No cell with fewer evaluations has an interval that reaches it."
    return (
        f"{text} The fewest evaluations whose interval reaches it are those of {names[id(enough)]}, with "
        f"{with_interval(enough.evaluation.overall[metric])}."
    )


def _computed(results: Sequence[Result], metrics: Sequence[str]) -> list[str]:
    """Return the metrics that some cell has."""
    return [name for name in metrics if any(name in result.evaluation.overall for result in results)]


def _sections(results: Sequence[Result], metrics: Sequence[str], folder: Path) -> list[Section]:
    listed, names = ", ".join(metrics), cell_names([result.cell for result in results])
    plots = [
        Picture(
            (folder / f"quality_{cost}.png").read_bytes(),
            f"Plot of {listed} against {what}; the table above has the numbers.",
            f"{listed} against {what}, with 95 % intervals. The pale line is the Pareto front.",
        )
        for cost, what in COSTS.items()
    ]
    matrix = Picture(
        (folder / "matrix.png").read_bytes(),
        "Generated images in rows and columns.",
        "A row for each cell, a column for each seed and class.",
    )
    return [
        Section("Which one", [summary(results, metrics[0]), comparison_table(results, metrics)]),
        Section("Quality against cost", plots),
        Section("The same seeds", [matrix]),
        *_classes(results, names, metrics),
    ]


def comparison_table(results: Sequence[Result], metrics: Sequence[str]) -> Table:
    """Return all cells as rows, with those marked that are on the Pareto front of the first metric."""
    metrics = _computed(results, metrics)
    names = cell_names([result.cell for result in results])
    fronts = {cost: set(map(id, front(results, metrics[0], cost))) for cost in COSTS}
    on_front = [[cost for cost in COSTS if id(result) in fronts[cost]] for result in results]
    rows = [
        [
            name,
            str(result.cell.evaluations),
            number(result.seconds),
            *(with_interval(result.evaluation.overall.get(metric)) for metric in metrics),
            ", ".join(costs) or "–",
        ]
        for name, result, costs in zip(names, results, on_front, strict=True)
    ]
    omitted = dict.fromkeys(text for result in results for text in result.evaluation.omitted)
    return Table(
        f"All cells, {INTERVALS}; marked are those that no other beats in both {metrics[0]} and cost",
        ["cell", "evaluations", f"seconds for {results[0].num_samples:,}", *metrics, "on the front in"],
        rows,
        [row for row, costs in enumerate(on_front) if costs],
        [
            *figure_notes(result.evaluation.overall for result in results),
            *(f"Left out: {text}" for text in omitted),
        ],
    )


def _classes(results: Sequence[Result], names: Sequence[str], metrics: Sequence[str]) -> list[Section]:
    """Return a section with a table for each metric, of cells and classes; none without classes."""
    classes = list(dict.fromkeys(name for result in results for name in result.evaluation.per_class))
    tables = [
        Table(
            f"{metric}, {INTERVALS}",
            ["cell", *classes],
            [
                [
                    name,
                    *(
                        with_interval(result.evaluation.per_class.get(label, {}).get(metric))
                        for label in classes
                    ),
                ]
                for name, result in zip(names, results, strict=True)
            ],
        )
        for metric in metrics
    ]
    return [Section("Class by class", tables)] if classes else []


def _rows(result: Result) -> Iterator[list[Any]]:
    """Yield a row of the CSV for each figure; the class of those of all images is empty."""
    values = result.to_dict()
    facts = [values[name] for name in CELL_COLUMNS]
    for name, figures in {"": values["overall"], **values["per_class"]}.items():
        for metric, each in figures.items():
            yield [*facts, name, metric, *(each[column] for column in FIGURE_COLUMNS)]
