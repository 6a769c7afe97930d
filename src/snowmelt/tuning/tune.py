"""Tuning one plan: from the best untuned one, through ever more free numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

from snowmelt.plans import Plan
from snowmelt.plans.words import lookup
from snowmelt.tuning.forms import Form, level_form, schedule_form, table_form
from snowmelt.tuning.least_squares import Objective, least_squares
from snowmelt.tuning.lesson import Lesson
from snowmelt.tuning.losses import LOSSES, Loss
from snowmelt.tuning.untuned import FEW, Start, best_starts

__all__ = ["METHODS", "Progress", "Tuned", "most_steps", "tune"]

STARTS = 2  # solvers whose times are tuned
PATIENCE, LEAST_GAIN = 2, 0.005  # steps without gain on held-out noises; gain in the loss below which to stop
SMALLEST = 1e-12  # scale of the loss, where the start is the teacher


class Effort(NamedTuple):
    """What one search may take: at most so many steps, and which share of the noises it learns from."""

    steps: int
    share: float


# Few numbers need few noises
EFFORTS = {
    "schedule": Effort(4, 0.25),
    "levels": Effort(8, 0.5),
    "table": Effort(10, 1.0),
    "features": Effort(4, 1.0),
}


class Progress(NamedTuple):
    """A step of a search.

    Attributes:
        stage: which numbers are free: a key of `METHODS`. ``features`` has those of the stage before it.
        loss: on the noises that it learns from.
        held_out: distance from the teacher on the noises that it does not: of features in the stage
            ``features``, else of images.
    """

    stage: str
    loss: float
    held_out: float


@dataclass(frozen=True)
class Tuned:
    """What tuning has found.

    Attributes:
        plan: the best on held-out noises; the start itself, if nothing was better.
        distance: its distance from the teacher on held-out noises, as the lesson compares.
        start: the best untuned plan.
        start_distance: the same for it.
        curve: every step of every search.
        stages: the best plan by the end of each stage.
        interrupted: Ctrl-C stopped the search, and this is the best until then.
    """

    plan: Plan
    distance: float
    start: Start
    start_distance: float
    curve: Sequence[Progress]
    stages: Mapping[str, Plan]
    interrupted: bool = False

    @property
    def gained(self) -> bool:
        """Whether it is better than its start."""
        return self.distance < self.start_distance


def tune(
    lesson: Lesson,
    held_out: Lesson,
    nfe: int,
    method: str = "table",
    *,
    loss: str = "huber",
    report: Callable[[Progress], object] = lambda progress: None,
) -> Tuned:
    """Return the best plan of `nfe` evaluations that the search finds.

    Images lead the search. Where the lesson compares features, a last stage goes on from there through them,
    and they decide what is kept.

    Args:
        lesson: what it learns from.
        held_out: other noises, which decide when to stop and what to keep.
        nfe: number of evaluations, >= 2.
        method: what is free, by cost: a key of `METHODS`.
        loss: a key of `LOSSES`; Huber's scale is the distance where a search starts.
        report: is told of every step.

    Raises:
        ValueError: a name is unknown, or the house has no plan of so many evaluations.
    """
    free = lookup("method", method, METHODS)
    loss_function = lookup("loss", loss, LOSSES)
    in_images, held_out_images = (each.through(None, len(each)) for each in (lesson, held_out))
    starts = best_starts(in_images, nfe, STARTS) if nfe > 1 else []
    if not starts:
        raise ValueError(
            f"a plan to tune takes 2 evaluations or more, and at most one a trained step: got {nfe}"
        )
    start = starts[0]
    objective = Objective(loss_function, max(start.distance, SMALLEST))
    distance = held_out_images.distance(start.plan)
    search = _Search(in_images, held_out_images, objective, report, start.plan, distance)
    interrupted = False
    try:
        form = free(search, starts)
        if lesson.features is not None:
            search = search.through(lesson, held_out, loss_function)
            search.improve("features", form)
    except KeyboardInterrupt:
        interrupted = True
    distances = held_out.distance(start.plan), held_out.distance(search.plan)
    gained = distances[1] < distances[0]
    return Tuned(
        replace(search.plan, name=f"tuned {method}") if gained else start.plan,
        min(distances),
        start,
        distances[0],
        tuple(search.curve),
        search.stages,
        interrupted,
    )


@dataclass
class _Search:
    """The searches for one plan, and the best on held-out noises so far."""

    lesson: Lesson
    held_out: Lesson
    objective: Objective
    report: Callable[[Progress], object]
    plan: Plan
    distance: float
    curve: list[Progress] = field(default_factory=list)
    stages: dict[str, Plan] = field(default_factory=dict)

    def through(self, lesson: Lesson, held_out: Lesson, loss: Loss) -> _Search:
        """Return a search that goes on from this one's plan, and compares as `lesson` does."""
        objective = Objective(loss, max(lesson.distance(self.plan), SMALLEST))
        distance = held_out.distance(self.plan)
        return replace(self, lesson=lesson, held_out=held_out, objective=objective, distance=distance)

    def improve(self, stage: str, form: Form) -> tuple[float, Form]:
        """Return the form at the best numbers that the search finds, and its distance on held-out noises."""
        steps, share = EFFORTS[stage]
        lesson = self.lesson[: max(FEW, round(share * len(self.lesson)))]
        best, at, idle, before = math.inf, form, 0, math.inf
        for step in islice(least_squares(form, lesson, self.objective), steps + 1):
            here = self.held_out.distance(step.plan)
            self.curve.append(Progress(stage, step.value, here))
            if here < self.distance:
                self.plan, self.distance = step.plan, here
            self.report(self.curve[-1])
            if here < best:
                best, at, idle = here, replace(form, numbers=step.numbers), 0
            else:
                idle += 1
            if idle >= PATIENCE or step.value > (1 - LEAST_GAIN) * before:
                break
            before = step.value
        self.stages[stage] = self.plan
        return best, at


def _schedule(search: _Search, starts: Sequence[Start]) -> Form:
    forms = [schedule_form(search.lesson.schedule, start.method) for start in starts]
    return min((search.improve("schedule", form) for form in forms), key=itemgetter(0))[1]


def _levels(search: _Search, starts: Sequence[Start]) -> Form:
    form = level_form(search.lesson.schedule, _schedule(search, starts))
    return search.improve("levels", form)[1]


def _table(search: _Search, starts: Sequence[Start]) -> Form:
    form = table_form(search.lesson.schedule, _levels(search, starts).plan)
    return search.improve("table", form)[1]


# Each goes on from where the one before it has arrived
METHODS: dict[str, Callable[[_Search, Sequence[Start]], Form]] = {
    "schedule": _schedule,
    "levels": _levels,
    "table": _table,
}


def most_steps(method: str, features: bool) -> int:
    """Return how many steps `tune` reports at the most."""
    stages = [*list(METHODS)[: list(METHODS).index(method) + 1], *(["features"] if features else [])]
    return sum((EFFORTS[stage].steps + 1) * (STARTS if stage == "schedule" else 1) for stage in stages)
