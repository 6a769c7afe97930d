"""The grid as pictures: quality against cost, and the same seeds in every cell."""

from __future__ import annotations

from collections.abc import Sequence
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from snowmelt.evaluation.compare.cell import COSTS, Cost, Result
from snowmelt.evaluation.compare.naming import cell_names, series_names
from snowmelt.evaluation.compare.pareto import LOWER_IS_BETTER, front
from snowmelt.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_matrix", "draw_quality"]

COLUMNS = 3
STYLES, MARKERS = ("-", "--", ":", "-."), "osD^vPX*"
INK, PALE = "#1f3a5f", "#c9d6e5"
WIDE = 20  # a ratio of values from which on an axis is logarithmic
SMALL_TILE, TILE = 0.45, 0.9  # inches
SMALL_SIDE = 32  # pixels
LETTER = 0.08  # inches of a name's letter


def draw_quality(results: Sequence[Result], metrics: Sequence[str], cost: Cost, path: str | Path) -> None:
    """Draw metrics, with their intervals, against a cost as PNG: a line for each series of cells.

    The Pareto front is the pale line behind them.

    Args:
        results: one or more.
        metrics: each of them computed for some cell.
        cost: a key of `COSTS`.
        path: the file.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    legend_rows = -(-len(series_names(result.cell for result in results)) // columns)
    size = (1.2 + 4.0 * columns, 3.2 * rows + 0.25 * legend_rows + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axes, metric in zip(panels, metrics, strict=False):
        measured = [result for result in results if metric in result.evaluation.overall]
        _draw_front(axes, measured, metric, cost)
        _draw_series(axes, measured, metric, cost, _looks(results))
        _dress(axes, measured, metric, cost)
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    lines, texts = panels[0].get_legend_handles_labels()
    figure.legend(lines, texts, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    _save(figure, path)


def draw_matrix(results: Sequence[Result], column_names: Sequence[str], path: str | Path) -> None:
    """Draw the kept pictures of all cells as PNG: a row for each cell, a column for each seed."""
    from matplotlib.figure import Figure

    pictures = torch.stack([result.pictures for result in results])
    rows, columns, channels, height, width = pictures.shape
    tiles = pictures.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    names = cell_names([result.cell for result in results])
    side, ratio = SMALL_TILE if max(height, width) <= SMALL_SIDE else TILE, height / width
    size = (side * columns + LETTER * max(map(len, names)), side * rows * ratio + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(tiles.expand(-1, -1, 3).numpy(), extent=(0, columns, rows, 0), aspect=ratio)
    axes.set_yticks([row + 0.5 for row in range(rows)], names, fontsize=8)
    axes.set_xticks([column + 0.5 for column in range(columns)], column_names, fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.hlines(range(1, rows), 0, columns, color="white", linewidth=1)
    axes.vlines(range(1, columns), 0, rows, color="white", linewidth=1)
    axes.spines[:].set_visible(False)
    _save(figure, path)


def _draw_front(axes: Axes, results: Sequence[Result], metric: str, cost: Cost) -> None:
    best = sorted(front(results, metric, cost), key=methodcaller("cost", cost))
    values = [result.evaluation.overall[metric].value for result in best]
    axes.step([result.cost(cost) for result in best], values, where="post", color=PALE, linewidth=5)


def _draw_series(
    axes: Axes,
    results: Sequence[Result],
    metric: str,
    cost: Cost,
    looks: dict[tuple[str, str, float], dict[str, Any]],
) -> None:
    for series, look in looks.items():
        line = [result for result in results if result.cell.series == series]
        line = sorted(line, key=methodcaller("cost", cost))
        figures = [result.evaluation.overall[metric] for result in line]
        at, low, high = [r.cost(cost) for r in line], [f.low for f in figures], [f.high for f in figures]
        axes.vlines(at, low, high, color=look["color"], alpha=0.35)
        axes.plot(at, [each.value for each in figures], linewidth=1.3, markersize=5, **look)


def _dress(axes: Axes, results: Sequence[Result], metric: str, cost: Cost) -> None:
    """Scale and label the axes."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    values = [result.evaluation.overall[metric].value for result in results]
    if min(values) > 0 and max(values) > WIDE * min(values):
        axes.set_yscale("log")
    direction = "lower" if metric in LOWER_IS_BETTER else "higher"
    axes.set_title(f"{metric} ({direction} is better)", fontsize=10, color=INK)
    axes.set_xlabel(COSTS[cost], fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _looks(results: Sequence[Result]) -> dict[tuple[str, str, float], dict[str, Any]]:
    """Return name and style of each series.

    Colour says sampler and checkpoint, the marker says the checkpoint, the line the guidance scale.
    """
    names = series_names(result.cell for result in results)
    checkpoints, _, scales = (list(dict.fromkeys(values)) for values in zip(*names, strict=True))
    models = list(dict.fromkeys((checkpoint, sampler) for checkpoint, sampler, _ in names))
    return {
        (checkpoint, sampler, scale): {
            "label": name,
            "color": f"C{models.index((checkpoint, sampler)) % 10}",
            "marker": MARKERS[checkpoints.index(checkpoint) % len(MARKERS)],
            "linestyle": STYLES[scales.index(scale) % len(STYLES)],
        }
        for (checkpoint, sampler, scale), name in names.items()
    }


def _save(figure: Figure, path: str | Path) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=150, bbox_inches="tight")
