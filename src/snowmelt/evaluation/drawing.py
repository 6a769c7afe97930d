"""An evaluation as pictures: the figures with their intervals, and the images themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snowmelt.evaluation.evaluate import Evaluation
from snowmelt.evaluation.novelty import picked
from snowmelt.evaluation.uncertainty import Figure
from snowmelt.files import atomic_write
from snowmelt.formats import ImageSource
from snowmelt.images import from_uint8, save_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_evaluation", "draw_side_by_side"]

INK, PALE, ACCENT = "#1f3a5f", "#c9d6e5", "#c8553d"


def draw_evaluation(evaluation: Evaluation, path: str | Path) -> None:
    """Draw the figures to a PNG file: a panel a metric, a band for all images, a point a class.

    Raises:
        ValueError: there are no figures.
    """
    from matplotlib.figure import Figure as Canvas

    if not evaluation.overall:
        raise ValueError("an evaluation without figures cannot be drawn")
    columns = min(4, len(evaluation.overall))
    rows = -(-len(evaluation.overall) // columns)
    height = 1.2 + 0.18 * len(evaluation.per_class)
    canvas = Canvas(figsize=(2.9 * columns, 0.4 + height * rows), layout="constrained")
    panels = canvas.subplots(rows, columns, squeeze=False).flatten().tolist()
    for panel, (name, overall) in zip(panels, evaluation.overall.items(), strict=False):
        classes = {label: found[name] for label, found in evaluation.per_class.items() if name in found}
        _draw_metric(panel, name, overall, classes)
    for panel in panels[len(evaluation.overall) :]:
        panel.set_axis_off()
    with atomic_write(path) as file:
        canvas.savefig(file, format="png", dpi=120)


def _draw_metric(panel: Axes, name: str, overall: Figure, classes: dict[str, Figure]) -> None:
    panel.set_title(f"{name}  {overall.value:.4g}", fontsize=9, color=INK)
    panel.axvspan(overall.low, overall.high, color=PALE)
    panel.axvline(overall.value, color=INK, linewidth=1.2)
    for place, each in enumerate(classes.values()):
        panel.plot([each.low, each.high], [place, place], color=ACCENT, linewidth=1)
        panel.plot(each.value, place, "o", color=ACCENT, markersize=3)
    panel.set_yticks(range(len(classes)), list(classes), fontsize=7)
    panel.set_ylim(max(len(classes), 1) - 0.5, -0.5)
    panel.tick_params(axis="x", labelsize=7)


def draw_side_by_side(
    generated: ImageSource, real: ImageSource, path: str | Path, *, per_class: int = 8, most: int = 20
) -> None:
    """Write generated images beside real ones as one PNG file: a row a class, the real ones to the right.

    Args:
        generated, real: of one shape, with classes numbered alike or without any.
        path: the PNG file.
        per_class: images of each kind in a row: the first ones of the class.
        most: classes that are shown.

    Raises:
        ValueError: the images are of different shapes.
    """
    labels = _common_labels(generated, real)[:most]
    left, right = (_first_of_each(source, labels, per_class) for source in (generated, real))
    if left.shape[2:] != right.shape[2:]:
        raise ValueError(
            f"generated images {tuple(left.shape[2:])} and real images {tuple(right.shape[2:])} do not fit "
            "into one picture: open both with the same image_size and channels"
        )
    gap = left.new_full((len(left), 1, *left.shape[2:]), 255)
    rows = torch.cat([left, gap, right], dim=1)
    save_grid(from_uint8(rows.flatten(0, 1)), path, nrow=rows.shape[1])


def _common_labels(generated: ImageSource, real: ImageSource) -> list[int | None]:
    if generated.labels is None or real.labels is None:
        return [None]
    return sorted(set(generated.labels.tolist()) & set(real.labels.tolist())) or [None]


def _first_of_each(source: ImageSource, labels: list[int | None], count: int) -> Tensor:
    """Return the first images of each class, uint8 (classes, count, C, H, W), white where there are fewer."""
    wanted = [_of_class(source, label)[:count].tolist() for label in labels]
    images = picked(source, [index for rows in wanted for index in rows])
    canvas = images.new_full((len(labels), count, *images.shape[1:]), 255)
    for row, found in zip(canvas, images.split([len(rows) for rows in wanted]), strict=True):
        row[: len(found)] = found
    return canvas


def _of_class(source: ImageSource, label: int | None) -> Tensor:
    """Return the indices of the images of a class; of all for None."""
    rows = torch.arange(len(source))
    return rows if label is None or source.labels is None else rows[source.labels == label]
