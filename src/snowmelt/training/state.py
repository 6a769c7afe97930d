"""Where a training run stands, beside the states of model, average and optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

__all__ = ["Progress", "named", "random_state", "set_random_state"]


@dataclass
class Progress:
    """How far a run has come. A checkpoint holds each attribute under its name.

    Attributes:
        images: training images seen so far, by all processes; an image counts each time it is seen.
        global_step: optimizer steps so far.
        epoch: epochs completed.
        batch: batches done in the epoch at hand.
        loss_sum: the sum of their losses, a scalar that stays on the device: reading it would wait.
        watched: name of the metric that chooses the best model.
        best_metric: its best value so far.
        seconds: what a run by the clock has taken so far; other runs do not count them.
        ending: what its end will take, in seconds: all that follows an epoch.
        unfinished: whether what follows an epoch, or the last step, was interrupted and is yet to be done.
        learning_rate: of the last step.
        precision: in which the network runs; empty until it is chosen.
    """

    images: int = 0
    global_step: int = 0
    epoch: int = 0
    batch: int = 0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros(()))
    watched: str = "loss"
    best_metric: float = math.inf
    seconds: float = 0.0
    ending: float = 0.0
    unfinished: bool = False
    learning_rate: float = 0.0
    precision: str = ""

    @property
    def position(self) -> dict[str, Any]:
        """The attributes that count what is done."""
        return {name: getattr(self, name) for name in ("images", "global_step", "epoch", "batch", "seconds")}

    def add_step(self, images: int, loss: Tensor, batches: int = 1) -> None:
        """Count one optimizer step, on some batches of this mean loss."""
        self.images += images
        self.global_step += 1
        self.batch += batches
        self.loss_sum = self.loss_sum.to(loss.device) + loss * batches

    def is_best(self, value: float | None, *, maximize: bool) -> bool:
        """Take note of a value of the watched metric, and return whether it is better than all before."""
        best = self.best_metric
        if value is None or not (value > best if maximize else value < best):
            return False
        self.best_metric = value
        return True

    def wait(self) -> None:
        """Wait until the device has done the steps so far."""
        self.loss_sum.item()

    def end_epoch(self) -> None:
        """Count one epoch."""
        self.epoch += 1
        self.batch = 0
        self.loss_sum = torch.zeros_like(self.loss_sum)

    def state_dict(self) -> dict[str, Any]:
        """Return the attributes by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` holds; files of older versions lack some attributes, which stay."""
        for item in fields(self):
            setattr(self, item.name, state.get(item.name, getattr(self, item.name)))


def named(kind: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics under names that tell their kind.

    >>> named("val", {"loss": 0.5})
    {'val_loss': 0.5}
    """
    return {f"{kind}_{name}": value for name, value in metrics.items()}


def random_state() -> dict[str, Any]:
    """Return the states of torch's global random generators, on the CPU and on the CUDA devices."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Go back to what `random_state` returned; on a machine with other devices, on the CPU alone."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
