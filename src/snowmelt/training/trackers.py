"""Where the curves and pictures of a run go beside its own files: TensorBoard, Weights & Biases, MLflow.

TensorBoard is written by torch, which can take back what a resumed run repeats; the others through the
trackers of Accelerate. Each is an optional library.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

from snowmelt.errors import require
from snowmelt.files import atomic_write

__all__ = ["TRACKERS", "Tracker", "check_trackers"]


class Tracker(ABC):
    """Abstract: gets what a run logs, in its first process.

    Args:
        folder: of the run's logs.
        run: its name.
    """

    @abstractmethod
    def __init__(self, folder: Path, run: str) -> None: ...

    @abstractmethod
    def numbers(self, row: Mapping[str, float], step: int) -> None:
        """Take numbers by name."""

    @abstractmethod
    def picture(self, name: str, path: Path, step: int) -> None:
        """Take a picture of a PNG file."""

    @abstractmethod
    def settings(self, settings: Mapping[str, Any]) -> None:
        """Take the settings of the run."""

    def rewind(self, step: int) -> None:  # noqa: B027
        """Forget what came after `step`, where the library can."""

    @abstractmethod
    def close(self) -> None:
        """Write what is still to be written."""


class TensorBoard(Tracker):
    """Event files in the folder of the logs."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder = folder
        self._open()

    def numbers(self, row: Mapping[str, float], step: int) -> None:
        for name, value in row.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def picture(self, name: str, path: Path, step: int) -> None:
        self.writer.add_image(name, _pixels(path), step, dataformats="HWC")

    def settings(self, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, indent=2, default=str)
        self.writer.add_text("hyperparameters", f"```\n{text}\n```")

    def rewind(self, step: int) -> None:
        self.writer.close()
        self._open(purge_step=step + 1)

    def close(self) -> None:
        self.writer.close()

    def _open(self, purge_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder), purge_step=purge_step)


class WandB(Tracker):
    """A run of Weights & Biases in the folder of the logs, in the project of the experiment.

    A resumed run goes on with the same run; what it repeats is dropped. Without a network,
    ``WANDB_MODE=offline`` writes files, which ``wandb sync`` sends later.
    """

    def __init__(self, folder: Path, run: str) -> None:
        from accelerate.tracking import WandBTracker

        number = _remembered(folder / "wandb.id", lambda: uuid4().hex)
        self._tracker = WandBTracker(run, dir=str(folder), id=number, resume="allow")

    @cached_property
    def tracker(self) -> Any:
        """That of Accelerate, started when it is first needed: the trainer has chosen the device by then."""
        return _started(self._tracker)

    def numbers(self, row: Mapping[str, float], step: int) -> None:
        self.tracker.log(dict(row), step=step)

    def picture(self, name: str, path: Path, step: int) -> None:
        self.tracker.log_images({name: [_pixels(path)]}, step=step)

    def settings(self, settings: Mapping[str, Any]) -> None:
        self.tracker.store_init_configuration(dict(settings))

    def close(self) -> None:
        self.tracker.finish()


class MLflow(Tracker):
    """A run of MLflow in the experiment of that name, where ``MLFLOW_TRACKING_URI`` says."""

    def __init__(self, folder: Path, run: str) -> None:
        self.known, self.run = folder / "mlflow.id", run

    @cached_property
    def tracker(self) -> Any:
        """That of Accelerate, started when it is first needed."""
        from accelerate.tracking import MLflowTracker

        number = self.known.read_text(encoding="utf-8") if self.known.exists() else None
        tracker = _started(MLflowTracker(self.run, run_id=number))
        _remembered(self.known, lambda: str(tracker.tracker.info.run_id))
        return tracker

    def numbers(self, row: Mapping[str, float], step: int) -> None:
        self.tracker.log(dict(row), step=step)

    def picture(self, name: str, path: Path, step: int) -> None:
        self.tracker.log_artifact(str(path), name)

    def settings(self, settings: Mapping[str, Any]) -> None:
        from mlflow import log_dict

        run = self.tracker.tracker.info.run_id
        # As a file: parameters may not change when a run goes on
        log_dict(dict(settings), "hyperparameters.json", run_id=run)

    def close(self) -> None:
        self.tracker.finish()


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


def check_trackers(names: Sequence[str]) -> None:
    """Raise MissingLibraryError if the library of a tracker is missing."""
    for name in names:
        require(name, needed_by="training.trackers", extra="train" if name == "tensorboard" else name)


def _started(tracker: Any) -> Any:
    """Start a tracker of Accelerate, which needs its state of the processes."""
    from accelerate import PartialState

    PartialState()
    tracker.start()
    return tracker


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _remembered(path: Path, make: Callable[[], str]) -> str:
    """Return what the file says; where there is none, it is made and written first."""
    if not path.exists():
        with atomic_write(path, "w") as file:
            file.write(make())
    return path.read_text(encoding="utf-8")
