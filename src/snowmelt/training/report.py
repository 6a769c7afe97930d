"""The page that a training run leaves: what the model makes, how it came about, what to do next."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snowmelt.report import (
    ACCENT,
    INK,
    Block,
    Chapter,
    Picture,
    check_report_libraries,
    panels,
    write_html_report,
)

if TYPE_CHECKING:
    from snowmelt.training.logger import DiffusionLogger

__all__ = ["REPORT", "write_training_report"]

REPORT = "report.html"
SHOWN = 4  # grids of samples, from the first to the last
COLOURS = (INK, ACCENT)

Rows = Sequence[Mapping[str, float]]


def write_training_report(
    logger: DiffusionLogger, title: str, facts: Mapping[str, str], next_steps: Sequence[str] = ()
) -> Path:
    """Write ``report.html`` beside the metrics of a run, and return its path.

    Args:
        logger: what the run has logged.
        title: of the page.
        facts: listed below the title, by name.
        next_steps: sentences that end the page.

    Raises:
        InputError: a library that reports need is missing.
    """
    check_report_libraries("the report of a training run")
    rows, grids = logger.numbers(), logger.pictures("samples")
    chapters = [
        Chapter("What the model makes", _made(grids, rows)),
        Chapter("How it learned", _learned(rows)),
        Chapter("What to do next", [*next_steps]),
    ]
    path = logger.log_dir / REPORT
    write_html_report(path, title, [chapter for chapter in chapters if chapter.blocks], facts)
    return path


def _made(grids: Mapping[int, Path], rows: Rows) -> list[Block]:
    """Return the samples, the last first, then some on the way to them."""
    if not grids:
        return []
    steps = sorted(grids)
    chosen = {steps[round(i * (len(steps) - 1) / (SHOWN - 1))] for i in range(SHOWN)}
    measured = {int(row["step"]): _metrics(row) for row in rows}
    blocks: list[Block] = []
    for step in sorted(chosen, reverse=True):
        found = measured.get(step, "")
        text = f"After {step:,} steps" + (f": {found}" if found else "")
        blocks.append(
            Picture(grids[step].read_bytes(), f"images that the model made after {step} steps", text)
        )
    return blocks


def _metrics(row: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name.removeprefix('eval_')} {row[name]:.4g}" for name in row if name.startswith("eval_")
    )


def _learned(rows: Rows) -> list[Block]:
    """Return the curves: losses together, everything else in a panel of its own."""
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in _AXES]
    losses = [name for name in names if name.endswith("loss")]
    groups = [group for group in (losses, *([name] for name in names if name not in losses)) if group]
    if not groups or len(rows) < 2:
        return []
    axis = "images" if all("images" in row for row in rows) else "step"
    figure, axes = panels(len(groups), 3, (3.6, 2.6), (0.0, 0.0))
    for panel, group in zip(axes, groups, strict=True):
        for name, colour in zip(group, COLOURS, strict=False):
            points = [(row[axis], row[name]) for row in rows if name in row]
            panel.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, label=name)
        panel.set_xlabel({"images": "images seen", "step": "steps"}[axis], fontsize=8)
        panel.tick_params(which="both", labelsize=7)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8, frameon=False)
        if group is losses and min(row[name] for name in group for row in rows if name in row) > 0:
            panel.set_yscale("log")
        if group == ["learning_rate"]:
            panel.set_ylim(bottom=0)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return [Picture(picture.getvalue(), "curves of loss and metrics", "Losses, learning rate and metrics.")]


_AXES = {"step", "epoch", "images", "seconds"}
