"""The page that a training run leaves: what the model makes, how it came about, what to do next."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snowmelt.report import (
    Block,
    Chapter,
    Picture,
    check_report_libraries,
    write_html_report,
)
from snowmelt.training.curves import draw_curves, metric_groups
from snowmelt.training.record import Rows

if TYPE_CHECKING:
    from snowmelt.training.logger import DiffusionLogger

__all__ = ["REPORT", "write_training_report"]

REPORT = "report.html"
SHOWN = 4  # grids of samples, from the first to the last


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
    """Return the curves."""
    runs = {"": rows}
    if not metric_groups(runs) or len(rows) < 2:
        return []
    picture = io.BytesIO()
    draw_curves(runs).savefig(picture, format="png", dpi=120)
    return [Picture(picture.getvalue(), "curves of loss and metrics", "Losses, learning rate and metrics.")]
