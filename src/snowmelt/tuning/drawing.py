"""Which number of evaluations to take, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from snowmelt.report import ACCENT, INK, PALE, panels, save_figure

__all__ = ["Curve", "draw_curves"]


class Curve(NamedTuple):
    """Distances from the teacher by number of evaluations."""

    name: str
    nfes: Sequence[int]
    distances: Sequence[float]


def draw_curves(curves: Sequence[Curve], tolerance: float, reference: str, path: str | Path) -> None:
    """Draw untuned and tuned distances against evaluations as PNG; the dashed line is the tolerance."""
    figure, (axes,) = panels(1, 1, (5.0, 3.2), (0.0, 0.0))
    for curve, color in zip(curves, (INK, ACCENT), strict=True):
        axes.plot(curve.nfes, curve.distances, marker="o", color=color, label=curve.name)
    axes.axhline(tolerance, color=PALE, linestyle="--", label=f"preset {reference}")
    axes.set_yscale("log")
    axes.set_xticks(sorted({nfe for curve in curves for nfe in curve.nfes}))
    axes.set_xlabel("evaluations")
    axes.set_ylabel("distance from the teacher")
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)
