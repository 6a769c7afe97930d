"""Figures of one look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snowmelt.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ACCENT", "INK", "PALE", "panels", "save_figure"]

INK, PALE, ACCENT = "#1f3a5f", "#c9d6e5", "#c8553d"


def panels(
    count: int, columns: int, size: tuple[float, float], more: tuple[float, float]
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its `count` panels, at most `columns` in a row.

    Args:
        count: >= 1.
        columns: >= 1.
        size: width and height of a panel in inches.
        more: width and height of what stands beside the panels.
    """
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure((more[0] + size[0] * columns, more[1] + size[1] * rows), layout="constrained")
    axes: list[Axes] = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file, whole or not at all."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=150, bbox_inches="tight")
