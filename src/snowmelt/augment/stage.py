"""A stage: what it does, what decides it, and what it will do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from snowmelt.augment.job import AugmentJob

__all__ = ["Stage"]


@dataclass(frozen=True)
class Stage:
    """One step of a job. Killed at any moment, it can be run again.

    Attributes:
        name: on the command line and in records.
        does: in a few words.
        decided_by: returns what decides its results, besides the stages before it.
        forecast: returns what it will do, from what is known before any stage was run.
        run: does it, and returns what it found in a sentence. The second argument is False where the same
            stage, with the same settings, was begun before and is to go on.
        command: the command of snowmelt that does the same.
    """

    name: str
    does: str
    decided_by: Callable[[AugmentJob], object]
    forecast: Callable[[AugmentJob], str]
    run: Callable[[AugmentJob, bool], str]
    command: Callable[[AugmentJob], str]
