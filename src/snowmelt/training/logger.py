"""What a training run leaves behind: curves, pictures and settings.

Everything stands in files that need no program to read: ``metrics.csv``, ``losses.png``, sample grids and
film strips as PNG, ``hyperparameters.json``. Trackers, such as TensorBoard, get all of it too.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from snowmelt.files import atomic_write
from snowmelt.images import film_strip, save_grid
from snowmelt.training.record import METRICS, find_pictures, read_rows, read_table
from snowmelt.training.trackers import TRACKERS

__all__ = ["DiffusionLogger"]


class DiffusionLogger:
    """Writes metrics to CSV, pictures to PNG, and both to trackers.

    Each row is in the file when `log_metrics` returns. Opened again on the same folder, it goes on where
    the file ends; a line that a kill left half written is dropped.

    Args:
        log_dir: where metrics go; made if missing.
        samples_dir: where pictures go; ``log_dir/samples`` if None.
        tensorboard: False is another word for no `trackers`.
        trackers: keys of `snowmelt.training.trackers.TRACKERS`, which get all of it too.
        run: the name that trackers show.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, DiffusionLogger(folder, tensorboard=False) as logger:
    ...     logger.log_metrics({"train_loss": 0.5}, step=10, epoch=1)
    ...     print((Path(folder) / "metrics.csv").read_text())
    step,epoch,train_loss
    10,1,0.5
    """

    def __init__(
        self,
        log_dir: str | Path,
        samples_dir: str | Path | None = None,
        *,
        tensorboard: bool = True,
        trackers: Sequence[str] = ("tensorboard",),
        run: str = "diffusion",
    ) -> None:
        self.log_dir = Path(log_dir)
        self.samples_dir = Path(samples_dir) if samples_dir is not None else self.log_dir / "samples"
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._csv = self.log_dir / METRICS
        self._columns, self._rows = read_table(self._csv)
        if self._rows:
            self._rewrite()  # without what was cut off
        names = trackers if tensorboard else ()
        self._trackers = [TRACKERS[name](self.log_dir, run) for name in names]

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: int | None = None) -> None:
        """Add a row; metrics that were not there before become new columns.

        Args:
            metrics: numbers by name.
            step: optimizer steps so far.
            epoch: epochs completed.

        Raises:
            ValueError: a metric is called ``step`` or ``epoch``, which have columns of their own.
        """
        if taken := {"step", "epoch"} & metrics.keys():
            raise ValueError(
                f"metrics must not hold {', '.join(sorted(taken))}: give it as an argument of its own"
            )
        row = {"step": str(step)}
        if epoch is not None:
            row["epoch"] = str(epoch)
        row |= {name: repr(float(value)) for name, value in metrics.items()}
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new or not self._csv.exists():
            self._columns += new
            self._rewrite()
        else:
            with self._csv.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)
        for tracker in self._trackers:
            tracker.numbers(metrics, step)

    def rewind(self, step: int) -> None:
        """Forget the rows after `step`: those of a run that goes on from there, or that begins anew (0)."""
        if not self._rows:
            return
        kept = [row for row in self._rows if int(row["step"]) <= step]
        if len(kept) < len(self._rows):
            self._rows = kept
            self._rewrite()
        for tracker in self._trackers:
            tracker.rewind(step)

    def log_hyperparameters(self, hyperparameters: Mapping[str, Any]) -> None:
        """Write the run's settings to ``hyperparameters.json``."""
        text = json.dumps(hyperparameters, indent=2, default=str)
        with atomic_write(self.log_dir / "hyperparameters.json", "w") as file:
            file.write(text + "\n")
        for tracker in self._trackers:
            tracker.settings(hyperparameters)

    def log_images(
        self, images: Tensor, name: str, step: int, class_labels: Sequence[int] | None = None
    ) -> Path:
        """Write a grid of images (N, C, H, W) in [-1, 1], with the classes as captions; return its path."""
        captions = [str(label) for label in class_labels] if class_labels is not None else None
        path = self.samples_dir / f"{name}_{step:07d}.png"
        save_grid(images, path, nrow=_row_length(len(images), class_labels), captions=captions)
        self._show(name, path, step)
        return path

    def log_film_strip(self, states: Sequence[Tensor], name: str, step: int) -> Path:
        """Write how images came about, one row an image, one column a state; return the picture's path."""
        path = self.samples_dir / f"{name}_{step:07d}.png"
        film_strip(states, path)
        self._show(name, path, step)
        return path

    def numbers(self) -> list[dict[str, float]]:
        """Return the rows of ``metrics.csv``, in order: ``step``, ``epoch`` and the metrics."""
        return read_rows(self._csv)

    def pictures(self, name: str) -> dict[int, Path]:
        """Return the paths of the pictures of a name, by step."""
        return find_pictures(self.samples_dir, name)

    def plot_losses(self) -> Path | None:
        """Draw the metrics named ``...loss`` to ``losses.png`` and return its path; None without any."""
        from matplotlib.figure import Figure

        names = [name for name in self._columns if name.endswith("loss")]
        rows = {name: [row for row in self._rows if name in row] for name in names}
        if not any(rows.values()):
            return None
        figure = Figure(figsize=(7, 4))
        axes = figure.subplots()
        for name in names:
            steps = [int(row["step"]) for row in rows[name]]
            axes.plot(steps, [float(row[name]) for row in rows[name]], marker=".", label=name)
        # With a learned uncertainty, the loss falls below 0
        positive = all(float(row[name]) > 0 for name in names for row in rows[name])
        axes.set(xlabel="step", ylabel="loss", yscale="log" if positive else "linear")
        axes.grid(alpha=0.3, which="both")
        axes.legend()
        path = self.log_dir / "losses.png"
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=120)
        self._show("losses", path, max(int(row["step"]) for row in self._rows))
        return path

    def close(self) -> None:
        """Close the trackers; the files are complete at any time."""
        for tracker in self._trackers:
            tracker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _show(self, name: str, path: Path, step: int) -> None:
        for tracker in self._trackers:
            tracker.picture(name, path, step)

    def _rewrite(self) -> None:
        with atomic_write(self._csv, "w") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)


def _row_length(count: int, class_labels: Sequence[int] | None) -> int:
    """Return how many images stand in a row: one class a row, or about a square."""
    if class_labels is not None and len(set(class_labels)) > 1:
        return -(-count // len(set(class_labels)))
    return math.ceil(math.sqrt(count))
