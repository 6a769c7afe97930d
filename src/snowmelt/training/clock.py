"""What a training run takes: a promise from its first steps, and the seconds so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from snowmelt.text import counted, duration
from snowmelt.training.processes import largest

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["StepClock", "Timer"]

STEPS, SECONDS = 10, 10.0  # whichever comes first; slow steps need no average
WARM_UP = 2  # of the steps: the first ones allocate, choose kernels and start workers


class StepClock:
    """Measures the first steps of a run and says once what they promise for the whole.

    Args:
        an_epoch: steps of an epoch.
        left: steps of the run, before the first one; None for a run by the clock.
        wait: returns when the device has done what was asked of it.
        say: gets the sentence as soon as enough steps are measured; None keeps silent.

    >>> clock = StepClock(an_epoch=3, left=30, wait=lambda: None)
    >>> list(clock.over(iter([64, 64, 32])))
    [64, 64, 32]
    >>> clock.seconds < 1
    True
    """

    def __init__(
        self,
        an_epoch: int,
        left: int | None,
        wait: Callable[[], object],
        say: Callable[[str], object] | None = None,
    ) -> None:
        self.an_epoch, self.left, self.wait, self.say = an_epoch, left, wait, say
        self._seconds: list[float] = []

    def over(self, steps: Iterator[int]) -> Iterator[int]:
        """Yield what `steps` yields."""
        while True:
            began = perf_counter()
            try:
                images = next(steps)
            except StopIteration:
                return
            if not self.is_done():
                self.wait()
                self._seconds.append(perf_counter() - began)
                if self.say is not None and self.is_done():
                    self.say(self.sentence())
            yield images

    def is_done(self) -> bool:
        """Return whether enough steps are measured: ten, or more than the warm-up in ten seconds."""
        measured = len(self._seconds)
        return measured >= STEPS or (measured > WARM_UP and sum(self._seconds) > SECONDS)

    @property
    def seconds(self) -> float:
        """Seconds of a step: the median, without the warm-up where there are other steps; 0 without any."""
        return median(self._seconds[WARM_UP:] or self._seconds or [0.0])

    def sentence(self) -> str:
        """Return how long a step, an epoch and the run take."""
        step, epoch, run = (duration(self.seconds * steps) for steps in (1, self.an_epoch, self.left or 0))
        said = f"A step takes {step}, an epoch about {epoch}"
        if self.left is not None:
            said += f", and the {counted(self.left, 'step')} of this run about {run}"
        return f"{said}, without validation, evaluation and samples"


class Timer:
    """Counts the seconds of a run by the clock in its progress, in all processes alike.

    Other runs count none: what they save follows from their settings alone.

    Args:
        trainer: whose run it is, with its length.
    """

    def __init__(self, trainer: DiffusionTrainer) -> None:
        self.trainer = trainer
        self.counts = trainer.length is not None and trainer.length.by_clock
        self._before = perf_counter()

    def tick(self, *numbers: float) -> tuple[float, ...]:
        """Count the seconds since the last tick. All processes must call this.

        Returns:
            The seconds, 0 in a run that counts none, and the largest that the processes give of each number.
        """
        now = perf_counter()
        passed, self._before = now - self._before, now
        told = largest(self.trainer.accelerator, passed if self.counts else 0.0, *numbers)
        self.trainer.progress.seconds += told[0]
        return told
