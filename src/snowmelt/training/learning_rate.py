"""The learning rate as a function of this run's settings and of the position, whatever came before."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from snowmelt.errors import InputError

__all__ = ["LearningRate"]


class LearningRate:
    """The rate of every parameter group: that of a schedule of torch, or a constant one.

    torch's schedules compute each rate from the one before. So a state that another run has saved would carry
    that run's rates on, a rate of 0 for ever. Here the schedule of this run goes from its beginning to the
    position instead, which takes microseconds a step.

    A warm-up multiplies the schedule's rates while an optimizer step is taken, and leaves no trace: it is a
    function of the images seen, whatever the schedule is.

    Args:
        optimizer: its groups state the rates at position 0.
        scheduler: made for the optimizer, and not yet stepped; None keeps the rates.
        warmup: images over which the rate rises linearly from 0 to the schedule's; 0 for none.

    Attributes:
        warmup_start: how many images the run had seen when the warm-up began.

    >>> from torch import nn
    >>> from torch.optim import SGD
    >>> from torch.optim.lr_scheduler import LinearLR
    >>> optimizer = SGD([nn.Parameter()], lr=0.1)
    >>> rate = LearningRate(optimizer, LinearLR(optimizer, 1.0, end_factor=0.0, total_iters=4))
    >>> rate.go_to(3)
    >>> round(optimizer.param_groups[0]["lr"], 4)
    0.025
    >>> LearningRate(optimizer, None, warmup=1000).share(250)
    0.25
    """

    def __init__(self, optimizer: Optimizer, scheduler: LRScheduler | None, warmup: int = 0) -> None:
        if warmup < 0:
            raise InputError(f"warmup must be a number of images, 0 or more, got {warmup}")
        self.optimizer, self.scheduler = optimizer, scheduler
        self.warmup, self.warmup_start = warmup, 0
        self._options = [deepcopy(_options(group)) for group in optimizer.param_groups]
        self._start = deepcopy(scheduler.state_dict()) if scheduler is not None else {}

    def step(self) -> None:
        """Go one position on."""
        if self.scheduler is not None:
            with warnings.catch_warnings():
                # Torch warns if no optimizer step came before, as on the way to a position
                warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step", UserWarning)
                self.scheduler.step()

    def share(self, images: int) -> float:
        """Return what the schedule's rate is multiplied with in the step that ends at `images` seen."""
        # Goyal et al. 2017, section 2.2: the gradual warm-up
        return min(1.0, (images - self.warmup_start) / self.warmup) if self.warmup else 1.0

    @contextmanager
    def warming(self, images: int) -> Iterator[None]:
        """Give every group, for the step that ends at `images`, its share of the schedule's rate."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        share = self.share(images)
        try:
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate if share == 1.0 else rate * share
            yield
        finally:
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def go_to(self, position: int) -> None:
        """Give every group the options of this run, and the rate that its schedule has at `position`."""
        for group, options in zip(self.optimizer.param_groups, self._options, strict=True):
            group.update(deepcopy(options))
        if self.scheduler is not None:
            self.scheduler.load_state_dict(deepcopy(self._start))
            for _ in range(position):
                self.step()


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}
