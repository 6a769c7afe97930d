"""The training runs below a folder: their numbers, curves and pictures, read while they train."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snowmelt.errors import InputError
from snowmelt.studio.below import changed, files_below

if TYPE_CHECKING:
    from snowmelt.training.record import Rows

__all__ = ["PICTURES", "Run", "colours", "curves", "find_runs", "lines", "overview"]

PICTURES = {"samples": "samples", "how they came about": "denoising"}
CONFIG = "config.yaml"  # beside the metrics


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        name: its folder, relative to the place.
        metrics: the table of its numbers.
        samples: the folder of its pictures, which need not exist.
        config: its configuration, if it is there.
    """

    name: str
    metrics: Path
    samples: Path
    config: Path | None = None

    @property
    def stamp(self) -> object:
        """What changes when there is something new to see."""
        return [changed(self.metrics), changed(self.samples)]

    @property
    def rows(self) -> Rows:
        """The rows of its metrics; none while they cannot be read."""
        return _rows(self.metrics, changed(self.metrics))

    def pictures(self, kind: str) -> dict[int, Path]:
        """Return its pictures of a kind, a key of `PICTURES`, by step."""
        from snowmelt.training.record import find_pictures

        found = find_pictures(self.samples, PICTURES[kind])
        return {step: path for step, path in found.items() if not path.is_symlink()}


def find_runs(root: Path) -> dict[str, Run]:
    """Return the runs below a folder by name, the one that changed last first."""
    found = [_run(root, metrics) for metrics in files_below(root, "metrics.csv")]
    found.sort(key=lambda run: changed(run.metrics), reverse=True)
    return {run.name: run for run in found if "step" in _header(run.metrics, changed(run.metrics))}


def overview(runs: Mapping[str, Run]) -> list[list[str]]:
    """Return a header, and a row for each run: how far it is, its losses, and when it last changed."""
    rows = [["run", "epochs", "steps", "training loss", "validation loss", "the least", "last change"]]
    for run in runs.values():
        last: dict[str, float] = {}
        for row in run.rows:
            last |= row
        losses = [row["val_loss"] for row in run.rows if "val_loss" in row]
        numbers = [
            f"{last['epoch']:,.0f}" if "epoch" in last else "",
            f"{last['step']:,.0f}" if "step" in last else "",
            *(f"{last[name]:.4g}" if name in last else "" for name in ("train_loss", "val_loss")),
            f"{min(losses):.4g}" if losses else "",
        ]
        at = datetime.fromtimestamp(changed(run.metrics) / 1e9)
        rows.append([run.name, *numbers, f"{at:%d %b %H:%M:%S}"])
    return rows


def curves(runs: Mapping[str, Rows], axis: str) -> list[tuple[str, bytes]]:
    """Return for each panel what it shows, and an SVG file of it.

    Args:
        runs: the rows of each run, by its name.
        axis: a key of `snowmelt.training.curves.AXES`.
    """
    from snowmelt.report import panels
    from snowmelt.training.curves import draw_panel, metric_groups

    pictures = []
    for group in metric_groups(runs):
        figure, (panel,) = panels(1, 1, (3.6, 2.6), (0.0, 0.0))
        draw_panel(panel, group, runs, axis)
        file = io.BytesIO()
        figure.savefig(file, format="svg")
        pictures.append((f"{', '.join(group)} over {panel.get_xlabel()}", file.getvalue()))
    return pictures


def colours(runs: Mapping[str, Any]) -> dict[str, str]:
    """Return the colour of each of several runs in the curves."""
    from snowmelt.training.curves import COLOURS

    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(runs)}


def lines(metrics: Mapping[str, Path], axis: str) -> str:
    """Return Python lines that draw the same curves into a file.

    Args:
        metrics: the table of each run, as a command names it.
        axis: as for `curves`.
    """
    tables = "".join(f"    {name!r}: {path.as_posix()!r},\n" for name, path in metrics.items())
    return f"""\
from snowmelt.training.curves import draw_curves
from snowmelt.training.record import read_rows

tables = {{
{tables}}}
figure = draw_curves({{name: read_rows(path) for name, path in tables.items()}}, {axis!r})
figure.savefig("curves.png")
"""


def _run(root: Path, metrics: Path) -> Run:
    """Return the run whose metrics these are. Its configuration says where the pictures are."""
    beside = metrics.with_name(CONFIG)
    config = beside if beside.is_file() and not beside.is_symlink() else None
    logs, samples = _subdirs(config, changed(config)) if config is not None else ("logs", "samples")
    depth = len(Path(logs).parts)
    in_logs = metrics.parent.parts[-depth:] == Path(logs).parts and metrics.parent != root
    folder = metrics.parents[depth] if in_logs else metrics.parent
    pictures = (folder / samples).resolve()
    if not pictures.is_relative_to(root):  # whatever the file says
        pictures = folder / "samples"
    name = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else "."
    return Run(name if name != "." else root.name, metrics, pictures, config)


@lru_cache(maxsize=1000)
def _subdirs(config: Path, stamp: int) -> tuple[str, str]:
    """Return the folders of logs and samples that a configuration states."""
    from snowmelt.config import load_config

    try:
        subdirs = load_config(config).output.subdirs
    except InputError:  # of another version
        return "logs", "samples"
    return subdirs.logs, subdirs.samples


@lru_cache(maxsize=1000)
def _rows(metrics: Path, stamp: int) -> Rows:
    from snowmelt.training.record import read_rows

    try:
        return read_rows(metrics)
    except InputError:  # somebody else's table
        return []


@lru_cache(maxsize=1000)
def _header(metrics: Path, stamp: int) -> list[str]:
    try:
        with metrics.open(encoding="utf-8") as file:
            return file.readline().strip().split(",")
    except (OSError, ValueError):
        return []
