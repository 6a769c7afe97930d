"""The ladder as a picture."""

from __future__ import annotations

from pathlib import Path

from snowmelt.evaluation.ladder.ladder import Ladder
from snowmelt.report import ACCENT, INK, PALE, panels, save_figure

__all__ = ["draw_ladder"]

ALARM = "#b3261e"


def draw_ladder(ladder: Ladder, path: str | Path) -> None:
    """Draw a panel for each metric to a PNG file: real, generated and spoilt images below each other.

    The band is the interval of real images. The title of a metric that is blind for these images is red.
    """
    sets = ladder.sets
    figure, axes = panels(len(ladder.real), 4, (2.9, 0.6 + 0.24 * len(sets)), (0.9, 0.2))
    for panel, (metric, real) in zip(axes, ladder.real.items(), strict=True):
        blind = ladder.blind(metric)
        title = f"{metric}: blind here" if blind else metric
        panel.set_title(title, fontsize=9, color=ALARM if blind else INK)
        panel.axvspan(real.low, real.high, color=PALE)
        for row, (name, found) in enumerate(sets.items()):
            if metric in found:
                each = found[metric]
                color = ACCENT if name == "generated" else INK
                panel.plot([each.low, each.high], [row, row], color=color, linewidth=1)
                panel.plot(each.value, row, "D" if name == "generated" else "o", color=color, markersize=4)
        panel.set_yticks(range(len(sets)), list(sets), fontsize=7)
        panel.set_ylim(len(sets) - 0.5, -0.5)
        panel.tick_params(axis="x", labelsize=7)
    save_figure(figure, path)
