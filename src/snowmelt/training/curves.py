"""The curves of training runs: their losses, learning rates and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from snowmelt.report import ACCENT, INK, panels
from snowmelt.training.record import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["AXES", "COLOURS", "draw_curves", "draw_panel", "metric_groups"]

AXES = {"step": "steps", "epoch": "epochs", "images": "images seen"}
# Of metrics in a panel; of runs, where there are several
COLOURS = (INK, ACCENT, "#2a8c82", "#b8860b", "#7b4fa3", "#5c8a3a", "#c2588f", "#6b7280")
STYLES = ("-", "--", ":")
_NO_METRICS = {*AXES, "seconds"}


def metric_groups(runs: Mapping[str, Rows]) -> list[list[str]]:
    """Return which metrics stand in a panel: losses together, everything else in one of its own.

    >>> metric_groups({"a": [{"step": 1, "train_loss": 0.5, "learning_rate": 0.1, "val_loss": 0.6}]})
    [['train_loss', 'val_loss'], ['learning_rate']]
    """
    names = dict.fromkeys(name for rows in runs.values() for row in rows for name in row)
    metrics = [name for name in names if name not in _NO_METRICS]
    losses = [name for name in metrics if name.endswith("loss")]
    return [group for group in (losses, *([name] for name in metrics if name not in losses)) if group]


def draw_panel(panel: Axes, group: Sequence[str], runs: Mapping[str, Rows], axis: str) -> None:
    """Draw some metrics over `axis`, a key of `AXES`.

    Of one run, each metric has a colour; of several, each run has one, and each metric a style.
    """
    for number, name in enumerate(group):
        style = STYLES[number % len(STYLES)] if len(runs) > 1 else "-"
        for place, rows in enumerate(runs.values()):
            points = [(row[axis], row[name]) for row in rows if name in row and axis in row]
            colour = COLOURS[(place if len(runs) > 1 else number) % len(COLOURS)]
            marker = "." if len(points) == 1 else None
            line: dict[str, Any] = {"color": colour, "linestyle": style, "linewidth": 1.2, "marker": marker}
            if points:
                panel.plot(*zip(*points, strict=True), **line, label=name if len(runs) == 1 else None)
        if len(runs) > 1:
            panel.plot([], [], color="gray", linestyle=style, linewidth=1.2, label=name)
    panel.set_xlabel(AXES[axis], fontsize=8)
    panel.tick_params(which="both", labelsize=7)
    panel.grid(alpha=0.3)
    if panel.lines:
        panel.legend(fontsize=8, frameon=False)
    values = [row[name] for rows in runs.values() for row in rows for name in group if name in row]
    if group[0].endswith("loss") and min(values) > 0:
        panel.set_yscale("log")
    if list(group) == ["learning_rate"]:
        panel.set_ylim(bottom=0)


def draw_curves(runs: Mapping[str, Rows], axis: str | None = None) -> Figure:
    """Return a figure of all metrics of some runs, three panels in a row.

    Args:
        runs: the rows of each, as `read_rows` gives them, by its name; at least one row in all.
        axis: a key of `AXES`; None takes the images if all rows tell them, and the steps otherwise.

    >>> figure = draw_curves({"mine": [{"step": 1, "train_loss": 0.5}, {"step": 2, "train_loss": 0.4}]})
    >>> [axes.get_xlabel() for axes in figure.axes]
    ['steps']
    """
    groups = metric_groups(runs)
    axis = axis or ("images" if all("images" in row for rows in runs.values() for row in rows) else "step")
    figure, axes = panels(len(groups), 3, (3.6, 2.6), (0.0, 0.0))
    for panel, group in zip(axes, groups, strict=True):
        draw_panel(panel, group, runs, axis)
    return figure
