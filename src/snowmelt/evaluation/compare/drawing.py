"""Pictures of the grid: quality against cost, and the same seeds in every cell."""

from __future__ import annotations

from collections.abc import Sequence
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from snowmelt.evaluation.compare.cell import COSTS, Cost, Result, Series, cell_names, series_names
from snowmelt.evaluation.compare.pareto import front
from snowmelt.evaluation.metrics import METRICS
from snowmelt.report import INK, PALE, panels, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_matrix", "draw_quality"]

COLUMNS = 3
STYLES, MARKERS = ("-", "--", ":", "-."), "osD^vPX*"
WIDE = 20  # if the largest value is more than this times the smallest, the axis is logarithmic
SMALL_TILE, TILE = 0.45, 0.9  # inches
SMALL_SIDE = 32  # pixels
LETTER = 0.08  # inches for a letter of a name


class _Style(NamedTuple):
    label: str
    color: str
    marker: str
    linestyle: str


def draw_quality(results: Sequence[Result], metrics: Sequence[str], cost: Cost, path: str | Path) -> None:
    """Draw metrics with their intervals against a cost as PNG: a line for each series of cells.

    The pale line behind them is the Pareto front.

    Args:
        results: one or more.
        metrics: one or more, each computed for some cell.
        cost: a key of `COSTS`.
        path: the file.
    """
    styles, columns = _styles(results), min(COLUMNS, len(metrics))
    legend = 0.25 * -(-len(styles) // columns)
    figure, all_axes = panels(len(metrics), columns, (4.0, 3.2), (1.2, legend + 0.4))
    for axes, metric in zip(all_axes, metrics, strict=True):
        measured = [result for result in results if metric in result.scores.overall]
        _draw_front(axes, measured, metric, cost)
        _draw_series(axes, measured, metric, cost, styles)
        _label_axes(axes, measured, metric, cost)
    lines, texts = all_axes[0].get_legend_handles_labels()
    figure.legend(lines, texts, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    save_figure(figure, path)


def draw_matrix(results: Sequence[Result], column_names: Sequence[str], path: str | Path) -> None:
    """Draw the kept pictures of all cells as PNG: a row for each cell, a column for each seed."""
    pictures = torch.stack([result.pictures for result in results])
    rows, columns, channels, height, width = pictures.shape
    tiles = pictures.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    names = cell_names([result.cell for result in results])
    side, ratio = SMALL_TILE if max(height, width) <= SMALL_SIDE else TILE, height / width
    size = (side * columns + LETTER * max(map(len, names)), side * rows * ratio + 0.4)
    figure, (axes,) = panels(1, 1, size, (0.0, 0.0))
    axes.imshow(tiles.expand(-1, -1, 3).numpy(), extent=(0, columns, rows, 0), aspect=ratio)
    axes.set_yticks([row + 0.5 for row in range(rows)], names, fontsize=8)
    axes.set_xticks([column + 0.5 for column in range(columns)], column_names, fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.hlines(range(1, rows), 0, columns, color="white", linewidth=1)
    axes.vlines(range(1, columns), 0, rows, color="white", linewidth=1)
    axes.spines[:].set_visible(False)
    save_figure(figure, path)


def _draw_front(axes: Axes, results: Sequence[Result], metric: str, cost: Cost) -> None:
    best = sorted(front(results, metric, cost), key=methodcaller("cost", cost))
    values = [result.scores.overall[metric].value for result in best]
    axes.step([result.cost(cost) for result in best], values, where="post", color=PALE, linewidth=5)


def _draw_series(
    axes: Axes,
    results: Sequence[Result],
    metric: str,
    cost: Cost,
    styles: dict[Series, _Style],
) -> None:
    for series, style in styles.items():
        line = [result for result in results if result.cell.series == series]
        line = sorted(line, key=methodcaller("cost", cost))
        estimates = [result.scores.overall[metric] for result in line]
        low, high = [each.low for each in estimates], [each.high for each in estimates]
        at = [result.cost(cost) for result in line]
        axes.vlines(at, low, high, color=style.color, alpha=0.35)
        axes.plot(
            at,
            [each.value for each in estimates],
            label=style.label,
            color=style.color,
            marker=style.marker,
            linestyle=style.linestyle,
            linewidth=1.3,
            markersize=5,
        )


def _label_axes(axes: Axes, results: Sequence[Result], metric: str, cost: Cost) -> None:
    """Scale and label the axes."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    values = [result.scores.overall[metric].value for result in results]
    if min(values) > 0 and max(values) > WIDE * min(values):
        axes.set_yscale("log")
    axes.set_title(f"{metric} ({METRICS[metric].better} is better)", fontsize=10, color=INK)
    axes.set_xlabel(COSTS[cost], fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _styles(results: Sequence[Result]) -> dict[Series, _Style]:
    """Return name and style of each series.

    The colour shows sampler and checkpoint, the marker the checkpoint, the line the guidance scale.
    """
    names = series_names(result.cell for result in results)
    checkpoints, _, scales = (list(dict.fromkeys(values)) for values in zip(*names, strict=True))
    models = list(dict.fromkeys((checkpoint, sampler) for checkpoint, sampler, _ in names))
    return {
        (checkpoint, sampler, scale): _Style(
            name,
            f"C{models.index((checkpoint, sampler)) % 10}",
            MARKERS[checkpoints.index(checkpoint) % len(MARKERS)],
            STYLES[scales.index(scale) % len(STYLES)],
        )
        for (checkpoint, sampler, scale), name in names.items()
    }
