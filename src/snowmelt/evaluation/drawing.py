"""Pictures of results: metrics with their intervals, and the images themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snowmelt.evaluation.matching import check_one_shape
from snowmelt.formats import ImageSource
from snowmelt.images import from_uint8, save_grid
from snowmelt.report import ACCENT, INK, PALE, panels, save_figure

if TYPE_CHECKING:
    from snowmelt.evaluation.answers.novelty import Novelty
    from snowmelt.evaluation.answers.scores import Scores

__all__ = ["draw_closest_pairs", "draw_scores", "draw_side_by_side"]


def draw_scores(scores: Scores, path: str | Path) -> None:
    """Draw metrics to a PNG file: a panel for each metric, a band for all images, a point for each class.

    Raises:
        ValueError: no metric was computed.
    """
    if not scores.overall:
        raise ValueError("no metric was computed, so there is nothing to draw")
    figure, axes = panels(len(scores.overall), 4, (2.9, 1.2 + 0.18 * len(scores.per_class)), (0.0, 0.4))
    for panel, (name, overall) in zip(axes, scores.overall.items(), strict=True):
        classes = {label: found[name] for label, found in scores.per_class.items() if name in found}
        panel.set_title(f"{name}  {overall.value:.4g}", fontsize=9, color=INK)
        panel.axvspan(overall.low, overall.high, color=PALE)
        panel.axvline(overall.value, color=INK, linewidth=1.2)
        for place, each in enumerate(classes.values()):
            panel.plot([each.low, each.high], [place, place], color=ACCENT, linewidth=1)
            panel.plot(each.value, place, "o", color=ACCENT, markersize=3)
        panel.set_yticks(range(len(classes)), list(classes), fontsize=7)
        panel.set_ylim(max(len(classes), 1) - 0.5, -0.5)
        panel.tick_params(axis="x", labelsize=7)
    save_figure(figure, path)


def draw_side_by_side(
    generated: ImageSource, real: ImageSource, path: str | Path, *, per_class: int = 8, most: int = 20
) -> None:
    """Write generated images beside real ones as one PNG file: a row for each class, real ones to the right.

    Args:
        generated, real: images of one shape, with classes numbered alike or without classes.
        path: the PNG file.
        per_class: the number of images of each kind in a row, the first ones of the class.
        most: the number of classes that are shown.

    Raises:
        ValueError: the images are of different shapes.
    """
    labels: list[int | None] = [None]
    if generated.labels is not None and real.labels is not None:
        common = set(generated.labels.tolist()) & set(real.labels.tolist())
        labels = [*sorted(common)[:most]] or labels
    check_one_shape([generated, real])
    left, right = (_first_of_each(source, labels, per_class) for source in (generated, real))
    gap = left.new_full((len(left), 1, *left.shape[2:]), 255)
    rows = torch.cat([left, gap, right], dim=1)
    save_grid(from_uint8(rows.flatten(0, 1)), path, nrow=rows.shape[1])


def draw_closest_pairs(
    found: Novelty,
    generated: ImageSource,
    training: ImageSource,
    path: str | Path,
    *,
    count: int = 10,
    nrow: int = 10,
) -> None:
    """Write the generated images that are closest to a training image, each above that image, as a PNG file.

    Args:
        found: the novelty of these images.
        generated, training: images of one shape.
        path: the PNG file.
        count: the number of pairs, closest first; all if there are fewer.
        nrow: the number of pairs in a row.

    Raises:
        ValueError: the images are of different shapes.
    """
    chosen = found.distances.argsort(stable=True)[:count]
    partners, distances = found.nearest[chosen].tolist(), found.distances[chosen].tolist()
    check_one_shape([generated, training])
    above, below = generated.take(chosen.tolist()), training.take(partners)
    tops = [f"made {index}" for index in chosen.tolist()]
    bottoms = [f"real {index}: {d:.3g}" for index, d in zip(partners, distances, strict=True)]
    nrow = min(nrow, len(chosen))
    blank = (above.new_full(above.shape[1:], 255), "")
    tiles: list[tuple[Tensor, str]] = []
    for start in range(0, len(chosen), nrow):
        for images, texts in ((above, tops), (below, bottoms)):
            row = [*zip(images[start : start + nrow], texts[start : start + nrow], strict=True)]
            tiles += [*row, *[blank] * (nrow - len(row))]
    pictures = torch.stack([image for image, _ in tiles])
    save_grid(from_uint8(pictures), path, nrow=nrow, captions=[text for _, text in tiles])


def _first_of_each(source: ImageSource, labels: list[int | None], count: int) -> Tensor:
    """Return the first images of each class, uint8 (classes, count, C, H, W), white where there are fewer."""
    wanted = [_of_class(source, label)[:count].tolist() for label in labels]
    images = source.take([index for rows in wanted for index in rows])
    canvas = images.new_full((len(labels), count, *images.shape[1:]), 255)
    for row, found in zip(canvas, images.split([len(rows) for rows in wanted]), strict=True):
        row[: len(found)] = found
    return canvas


def _of_class(source: ImageSource, label: int | None) -> Tensor:
    """Return the indices of the images of a class; of all for None."""
    rows = torch.arange(len(source))
    return rows if label is None or source.labels is None else rows[source.labels == label]
