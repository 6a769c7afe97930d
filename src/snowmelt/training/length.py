"""The length of a run: one value, from which all that changes over a run reads how far it has come."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snowmelt.errors import InputError
from snowmelt.text import counted, duration

if TYPE_CHECKING:
    from snowmelt.data import TrainingData
    from snowmelt.training.state import Progress

__all__ = ["UNITS", "Epoch", "Length"]


@dataclass(frozen=True)
class Epoch:
    """What an epoch holds.

    Attributes:
        batches: of each process.
        images: of all processes.
        steps: of the optimizer.
    """

    batches: int
    images: int
    steps: int

    @classmethod
    def of(cls, data: TrainingData, process: tuple[int, int] = (0, 1), accumulation: int = 1) -> Epoch:
        """Return what an epoch of the data holds.

        Args:
            data: its training images.
            process: (rank, number of processes).
            accumulation: batches of each process in a step, >= 1.
        """
        if accumulation < 1:
            raise InputError(f"accumulation must be a number of batches, at least 1, got {accumulation}")
        batches = data.batches_per_epoch(process)
        images = min(batches * data.batch_size * process[1], data.num_epoch_images)
        return cls(batches, images, steps=-(-batches // accumulation))


# What a run may be measured in: its amount at a position, what its end adds included
UNITS: dict[str, Callable[[Progress, Epoch], float]] = {
    "epochs": lambda done, epoch: done.epoch + done.batch / epoch.batches,
    "images": lambda done, epoch: done.images,
    "steps": lambda done, epoch: done.global_step,
    "seconds": lambda done, epoch: done.seconds + done.ending,
}


@dataclass(frozen=True)
class Length:
    """How long a run is. It ends, also within an epoch, with the step in which its share reaches 1.

    Args:
        amount: > 0.
        unit: a key of `UNITS`. Seconds are those of the clock on the wall.

    >>> from snowmelt.training.state import Progress
    >>> length = Length.of(epochs=4)
    >>> epoch = Epoch(batches=10, images=640, steps=10)
    >>> length.share(Progress(epoch=1, batch=5), epoch), str(length)
    (0.375, '4 epochs')
    """

    amount: float
    unit: str

    @classmethod
    def of(
        cls,
        epochs: int | None = None,
        images: int | None = None,
        steps: int | None = None,
        seconds: float | None = None,
    ) -> Length:
        """Return the one length that is given.

        Raises:
            InputError: none or more than one is given, or it is below 1.
        """
        amounts = {"epochs": epochs, "images": images, "steps": steps, "seconds": seconds}
        given = {unit: amount for unit, amount in amounts.items() if amount is not None}
        if len(given) != 1:
            got = ", ".join(f"{unit} {amount}" for unit, amount in given.items()) or "none of them"
            raise InputError(
                f"a run ends after a number of epochs, images, steps or seconds: give one, got {got}"
            )
        unit, amount = given.popitem()
        if amount <= 0:
            raise InputError(f"the length of a run must be above 0, got {amount} {unit}")
        return cls(amount, unit)

    @property
    def by_clock(self) -> bool:
        """Whether the run follows the clock on the wall."""
        return self.unit == "seconds"

    def share(self, done: Progress, epoch: Epoch) -> float:
        """Return how much of the run is done, u: 0 at the beginning, 1 at the end."""
        return UNITS[self.unit](done, epoch) / self.amount

    def epochs_left(self, done: Progress, epoch: Epoch) -> float:
        """Return how many epochs are left; 0 after the end, and before a run by the clock has a speed."""
        left = max(0.0, self.amount - UNITS[self.unit](done, epoch))
        if self.by_clock:  # at the speed so far
            return left / done.seconds * done.images / epoch.images if done.seconds else 0.0
        return left / {"epochs": 1, "images": epoch.images, "steps": epoch.steps}[self.unit]

    def steps_left(self, done: Progress, epoch: Epoch) -> int:
        """Return how many steps are left, the last one of an epoch being as long as the others."""
        return math.ceil(round(self.epochs_left(done, epoch) * epoch.steps, 6))

    def images_left(self, done: Progress, epoch: Epoch) -> int:
        """Return how many images are left."""
        return math.ceil(round(self.epochs_left(done, epoch) * epoch.images, 6))

    def __str__(self) -> str:
        if self.by_clock:
            return duration(self.amount)
        return counted(int(self.amount), self.unit.removesuffix("s"))
