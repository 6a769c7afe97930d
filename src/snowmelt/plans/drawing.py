"""A plan as a picture: where it evaluates the network, and how it weighs what it has.

Above, the noise share sigma / (alpha + sigma), which runs from 1 (pure noise) to 0 (the image) on every
schedule, at each evaluation. Below, the coefficients: one row a term, one column an evaluation, blue adds and
red takes away.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snowmelt.errors import require
from snowmelt.files import atomic_write
from snowmelt.plans.plan import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_plan", "plan_figure"]

MAX_NUMBERS = 24  # evaluations up to which the coefficients are written into their cells
INK, PALE = "#1f3a5f", "#c9d6e5"


def draw_plan(plan: Plan, path: str | Path) -> None:
    """Draw `plan` to a file; its suffix says the format, such as ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        MissingLibraryError: matplotlib is not installed.
        ValueError: it does not know the format.
    """
    figure = plan_figure(plan)
    suffix = Path(path).suffix.removeprefix(".") or "png"
    if suffix not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"a plan cannot be drawn as {suffix!r}: give a path that ends in .png, .svg or .pdf")
    with atomic_write(path) as file:
        figure.savefig(file, format=suffix, dpi=150)


def plan_figure(plan: Plan) -> Figure:
    """Return `plan` as a figure of matplotlib.

    Raises:
        MissingLibraryError: it is not installed.
    """
    require("matplotlib", needed_by="drawing a plan", extra="report")
    from matplotlib.figure import Figure

    tables = {"$y$": plan.weights("advance")}
    if plan.corrects:
        tables = {"$x$": plan.weights("correct"), **tables}
    heights = [3.0, *(0.45 * len(table) + 0.1 for table in tables.values())]
    width = min(max(6.0, 0.62 * plan.nfe + 1.5), 20.0)
    figure = Figure(figsize=(width, sum(heights) + 1.0), layout="constrained")
    top, *others = figure.subplots(len(heights), height_ratios=heights, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(repr(plan).strip("<>"), fontsize=11, color=INK)
    _draw_levels(top, plan)
    for axes, (target, table) in zip(others, tables.items(), strict=True):
        _draw_weights(axes, target, table)
    others[-1].set_xlabel("evaluation")
    return figure


def _draw_levels(axes: Axes, plan: Plan) -> None:
    share = [level.sigma / (level.alpha + level.sigma) for level in plan.levels]
    at = range(1, plan.nfe + 2)
    axes.vlines(at, 0, share, color=PALE, linewidth=1)
    axes.plot(at, share, color=INK, linewidth=1.2)
    axes.scatter(at[:-1], share[:-1], s=26, color=INK, zorder=3)
    axes.scatter(at[-1:], share[-1:], s=30, facecolor="white", edgecolor=INK, zorder=3, clip_on=False)
    axes.set_ylabel(r"noise share $\sigma / (\alpha + \sigma)$")
    axes.set_ylim(-0.03, 1.05)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_weights(axes: Axes, target: str, table: dict[str, list[float]]) -> None:
    from matplotlib.colors import AsinhNorm

    terms, values = list(table), list(table.values())
    nfe = len(values[0])
    limit = max(1.0, *(abs(value) for row in values for value in row))
    shade = AsinhNorm(linear_width=0.5, vmin=-limit, vmax=limit)  # one huge weight leaves the others visible
    axes.imshow(
        values, cmap="RdBu", norm=shade, aspect="auto", extent=(0.5, nfe + 0.5, len(terms) - 0.5, -0.5)
    )
    axes.set_xlim(0.5, nfe + 1.5)  # room for the result above
    axes.set_yticks(range(len(terms)), terms)
    axes.set_ylabel(f"new {target}", rotation=0, ha="right", va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if nfe <= MAX_NUMBERS:
        axes.set_xticks(range(1, nfe + 1))
        cells = ((i, j, value) for i, row in enumerate(values) for j, value in enumerate(row) if value)
        for i, j, value in cells:
            color = "white" if abs(shade(value) - 0.5) > 0.25 else INK
            axes.text(j + 1, i, f"{value:.2f}", ha="center", va="center", size=7.5, color=color)
