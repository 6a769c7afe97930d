"""Averages that are kept over a run beside the main one, so that any other can be made of them afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snowmelt.models import EMA, Checkpoint
from snowmelt.models.post_hoc import FOLDER, WIDTHS, snapshot_name

__all__ = ["Snapshots"]


class Snapshots:
    """Tracks averages of two widths, and writes what they are at equally many moments of the run.

    `snowmelt.models.post_hoc.synthesised` makes an average of any width of these files (Karras et al. 2024,
    section 3.2). As in the paper, they hold float16.

    Args:
        model: whose weights are averaged.
        number: of moments over the run, the last one being its end.
    """

    def __init__(self, model: nn.Module, number: int) -> None:
        self.number = number
        self.averages = {width: EMA(model, width=width) for width in WIDTHS}

    def update(self) -> None:
        """Take the model's weights into the averages."""
        for average in self.averages.values():
            average.update()

    def is_due(self, before: float, now: float) -> bool:
        """Return whether a moment lies after the share `before` of the run, and not after the share `now`."""
        return int(now * self.number + 1e-9) > int(before * self.number + 1e-9)

    def shadows(self) -> dict[float, dict[str, Tensor]]:
        """Return the averaged weights of each width."""
        return {width: average.shadow for width, average in self.averages.items()}

    def write(
        self, folder: Path, like: Checkpoint, shadows: Mapping[float, Mapping[str, Tensor]], step: int
    ) -> None:
        """Write the averages below the folder of the checkpoints.

        Args:
            folder: of the checkpoints.
            like: says what the weights mean.
            shadows: what `shadows` returned, whole.
            step: of the run.
        """
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        for width, shadow in shadows.items():
            updates = self.averages[width].num_updates
            facts = {"ema_width": width, "num_updates": updates, "global_step": step}
            weights = {name: _half(value) for name, value in shadow.items()}
            snapshot = replace(like, weights=weights, ema=None, training=facts, config=None)
            snapshot.write(folder / FOLDER / snapshot_name(width, step))

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the states of the averages."""
        return [average.state_dict() for average in self.averages.values()]

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take over what `state_dict` returned."""
        for state in states:
            self.averages[state["width"]].load_state_dict(state)


def _half(value: Tensor) -> Tensor:
    return value.to(torch.float16) if value.is_floating_point() else value
