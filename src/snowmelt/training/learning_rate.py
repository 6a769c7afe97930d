"""The learning rate as a function of this run's settings and of the position, whatever came before."""

from __future__ import annotations

import warnings
from copy import deepcopy

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from snowmelt.errors import InputError
from snowmelt.training.layers import BEGIN
from snowmelt.training.length import Epoch, Length
from snowmelt.training.rate_schedules import RateSchedule
from snowmelt.training.state import Progress

__all__ = ["LearningRate"]

CONSTANT = RateSchedule()
WARM_UP = 1 / 50  # of the run, where no number of images is stated


class LearningRate:
    """The rate of every parameter group: its own, times the share of a schedule, times that of a warm-up.

    Both are functions of the position: how much is done of the run since `start`. Groups that begin later
    (`snowmelt.training.layers`) have a rate of 0 until then.

    A schedule of torch may change the groups' own rates once an epoch. It computes each from the one before.
    So a state that another run has saved would carry that run's rates on, a rate of 0 for ever. Here the
    schedule of this run goes from its beginning to the position instead, in microseconds a step.

    Args:
        optimizer: its groups state their own rates.
        schedule: read at each step.
        warmup: images over which the rate rises linearly from 0 to the schedule's; 0 for none, None for a
            fiftieth of the run.
        scheduler: of torch, made for the optimizer and not yet stepped; None keeps the groups' own rates.

    Attributes:
        start: the position at which schedule and warm-up begin.

    >>> from torch import nn
    >>> from torch.optim import SGD
    >>> optimizer = SGD([nn.Parameter()], lr=0.1)
    >>> rate = LearningRate(optimizer, RateSchedule("linear"), warmup=1000)
    >>> rate.set(Progress(images=500), Epoch(batches=10, images=500, steps=10), Length.of(images=1000))
    >>> optimizer.param_groups[0]["lr"]
    0.025
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: RateSchedule = CONSTANT,
        warmup: int | None = 0,
        scheduler: LRScheduler | None = None,
    ) -> None:
        if warmup is not None and warmup < 0:
            raise InputError(f"warmup must be a number of images, 0 or more, got {warmup}")
        if scheduler is not None and schedule != CONSTANT:
            raise InputError("give a rate_schedule, or a scheduler of torch, not both: they would multiply")
        self.optimizer, self.schedule, self.warmup, self.scheduler = optimizer, schedule, warmup, scheduler
        self.start = Progress()
        self._rates = self._start_rates = [group["lr"] for group in optimizer.param_groups]
        self._start = deepcopy(scheduler.state_dict()) if scheduler is not None else {}

    def set(self, done: Progress, epoch: Epoch, length: Length | None, images: int = 0) -> None:
        """Give every group the rate of a step.

        Args:
            done: the position before it.
            epoch: what an epoch holds.
            length: of the run; without one, schedules that take the whole run stay at their beginning.
            images: of the step.
        """
        share = self.share(done, epoch, length, images)
        run = length.share(done, epoch) if length is not None else 0.0
        self._give([rate if share == 1.0 else rate * share for rate in self._rates], run)

    def share(self, done: Progress, epoch: Epoch, length: Length | None, images: int = 0) -> float:
        """Return what the rates of a step are multiplied with; the arguments are those of `set`."""
        seen, over = done.images - self.start.images, self.schedule.over
        u = over.share(done, epoch) - over.share(self.start, epoch) if over else self._u(done, epoch, length)
        return self.schedule.share(u, seen) * self._warm(done, epoch, length, images)

    def _warm(self, done: Progress, epoch: Epoch, length: Length | None, images: int) -> float:
        """Return the share that the warm-up leaves at a step's end (Goyal et al. 2017, section 2.2)."""
        if self.warmup is not None:
            seen = done.images - self.start.images + images
            return min(1.0, seen / self.warmup) if self.warmup else 1.0
        if length is None:
            return 1.0
        whole = 0 if length.by_clock else length.images_left(self.start, epoch)
        of_step = images / whole if whole else 0.0  # the clock does not know when a step ends
        return min(1.0, (self._u(done, epoch, length) + of_step) / WARM_UP)

    def _u(self, done: Progress, epoch: Epoch, length: Length | None) -> float:
        """Return how much of the run is done since its start."""
        if length is None:
            return 0.0
        before = length.share(self.start, epoch)
        return (length.share(done, epoch) - before) / (1.0 - before) if before < 1.0 else 1.0

    def end_epoch(self) -> None:
        """Let torch's schedule go one epoch on."""
        if self.scheduler is None:
            return
        self._give(self._rates)
        with warnings.catch_warnings():
            # Torch warns if no optimizer step came before, as on the way to a position
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step", UserWarning)
            self.scheduler.step()
        self._rates = [group["lr"] for group in self.optimizer.param_groups]

    def go_to(self, epoch: int) -> None:
        """Give every group its own rate, that of torch's schedule after so many epochs."""
        self._rates = self._start_rates
        self._give(self._rates)
        if self.scheduler is not None:
            self.scheduler.load_state_dict(deepcopy(self._start))
            for _ in range(epoch):
                self.end_epoch()

    def _give(self, rates: list[float], run: float = 1.0) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate if run >= group.get(BEGIN, 0.0) else 0.0
