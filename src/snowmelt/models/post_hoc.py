"""Averages of any width, made after the run from the snapshots that it has written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.models.checkpoint import Checkpoint
from snowmelt.models.power_ema import check_width, exponent_of, snapshot_weights
from snowmelt.models.weights import name_file_in_errors

__all__ = ["FOLDER", "WIDTHS", "snapshot_name", "synthesised"]

FOLDER = "ema"  # of the snapshots, beside the checkpoints
WIDTHS = (0.05, 0.10)  # of the averages that are tracked (Karras et al. 2024, section 3.2)


def snapshot_name(width: float, step: int) -> str:
    """Return the name of a snapshot's file.

    >>> snapshot_name(0.05, 1200)
    'ema_0.050_0001200.safetensors'
    """
    return f"ema_{width:.3f}_{step:07d}.safetensors"


@dataclass(frozen=True)
class _Snapshot:
    path: Path
    width: float
    updates: int
    step: int

    @property
    def start(self) -> int:
        """The step with which its average began."""
        return self.step - self.updates


def synthesised(folder: str | PathLike[str], width: float) -> Checkpoint:
    """Return the latest checkpoint of a run with the average that it would have had with another width.

    The average is that at the last snapshot, by least squares from all of them (Karras et al. 2024,
    algorithm 3).

    Args:
        folder: of a run that was trained with `training.ema.snapshots`, or of its checkpoints.
        width: relative width of the average, a share of the run above 0 and up to 12^(-1/2).

    Raises:
        InputError: the width is out of range, or there are no snapshots.
        CheckpointError: a snapshot or the checkpoint cannot be read.
    """
    try:
        gamma = exponent_of(check_width(width))
    except ValueError as error:
        raise InputError(str(error)) from error
    checkpoints = _checkpoints_of(Path(folder))
    snapshots = [_read(path)[0] for path in sorted((checkpoints / FOLDER).glob("ema_*.safetensors"))]
    newest = max(snapshots, key=lambda one: one.step)
    # Not those of averages that began at another step
    snapshots = [one for one in snapshots if one.start == newest.start]
    factors = snapshot_weights(
        [one.updates for one in snapshots],
        [exponent_of(one.width) for one in snapshots],
        newest.updates,
        gamma,
    )
    average: dict[str, Tensor] = {}
    for snapshot, factor in zip(snapshots, factors, strict=True):
        for name, value in _read(snapshot.path)[1].weights.items():
            if value.is_floating_point():
                part = value.to(torch.float32) * factor
                average[name] = average[name] + part if name in average else part
            elif snapshot.step == newest.step:
                average[name] = value
    latest = Checkpoint.read(checkpoints / "latest.pth")
    state = {"width": float(width), "num_updates": newest.updates, "shadow": average}
    kept = {key: value for key, value in latest.training.items() if key == "background"}
    return replace(latest, ema=state, training=kept)


def _checkpoints_of(folder: Path) -> Path:
    """Return the folder of checkpoints with snapshots: this one, or one in it."""
    for candidate in (folder, *sorted(path for path in folder.glob("*/") if path.is_dir())):
        if any((candidate / FOLDER).glob("ema_*.safetensors")) and (candidate / "latest.pth").exists():
            return candidate
    raise InputError(
        f"{folder} holds no snapshots of averages beside a latest.pth: give the folder of a run that was "
        f"trained with training.ema.snapshots, such as 16"
    )


def _read(path: Path) -> tuple[_Snapshot, Checkpoint]:
    checkpoint = Checkpoint.read(path)
    facts = checkpoint.training
    with name_file_in_errors(path):
        width, updates, step = facts["ema_width"], facts["num_updates"], facts["global_step"]
        return _Snapshot(path, check_width(width), int(updates), int(step)), checkpoint
