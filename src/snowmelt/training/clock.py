"""How long a training run takes, from its first steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter

from snowmelt.text import counted

__all__ = ["StepClock", "duration"]

STEPS, SECONDS = 10, 10.0  # whichever comes first; slow steps need no average
WARM_UP = 2  # of the steps: the first ones allocate, choose kernels and start workers


class StepClock:
    """Measures the first steps of a run and says once what they promise for the whole.

    Args:
        an_epoch: steps of an epoch.
        left: steps of the run, before the first one.
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
        left: int,
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
        step, epoch, run = (duration(self.seconds * steps) for steps in (1, self.an_epoch, self.left))
        return (
            f"A step takes {step}, an epoch about {epoch}, and the {counted(self.left, 'step')} of this run "
            f"about {run}, without validation, evaluation and samples"
        )


def duration(seconds: float) -> str:
    """Return seconds in words, in the largest unit that gives two or more of it.

    >>> duration(0.25), duration(1), duration(100), duration(400), duration(20_000), duration(10**6)
    ('0.25 seconds', '1 second', '100 seconds', '7 minutes', '6 hours', '12 days')
    """
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    text = f"{seconds:.0f}" if seconds >= 2 else f"{seconds:.2g}"
    return "1 second" if text == "1" else f"{text} seconds"
