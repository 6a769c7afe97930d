"""Levenberg and Marquardt's method for the few numbers of a plan.

A plan has some dozens of numbers and a lesson thousands of pixels. That is nonlinear least squares, where a
step along the gradient is slow, since the numbers act on each other. Marquardt's step solves

    (J^T W J + mu diag(J^T W J)) step = -J^T W r,                        (Marquardt 1963)

where r is the difference to the teacher, J its derivative and W the loss's weight of each image. J is found
by finite differences, so nothing needs a gradient: any denoiser, guidance, threshold and feature will do, and
no activations are kept. A number of row i changes nothing before that row: its column costs the evaluations
after it alone, and the last row's numbers cost none.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from snowmelt.plans import Plan
from snowmelt.plans.integrate import Memory, take_row, take_rows
from snowmelt.tuning.forms import Form, Numbers
from snowmelt.tuning.lesson import Lesson
from snowmelt.tuning.losses import Loss

__all__ = ["Objective", "Step", "least_squares"]

NUDGE = 3e-3  # for finite differences: float32 images keep three digits of the slope
DAMPING, CALMER, BOLDER, CALMEST = 1e-3, 4.0, 0.3, 1e6
MOST_NUMBERS = 2**24  # in the derivatives of one piece of the lesson


class Objective(NamedTuple):
    """What is minimised: a value of `LOSSES`, and its scale."""

    loss: Loss
    delta: float

    def value(self, plan: Plan, lesson: Lesson) -> float:
        """Return the mean loss of a plan; inf where a run breaks."""
        error = lesson.residual(lesson.run(plan)).square().mean(1)
        value = self.loss(error, self.delta)[0].mean().item()
        return value if math.isfinite(value) else math.inf


class Step(NamedTuple):
    """Where the search stands after a step."""

    numbers: Numbers
    plan: Plan
    value: float


class _Equations(NamedTuple):
    matrix: Tensor  # J^T W J
    gradient: Tensor  # J^T W r


def least_squares(form: Form, lesson: Lesson, objective: Objective) -> Iterator[Step]:
    """Yield the start, and then ever better numbers, until no step makes them better.

    Args:
        form: what is free.
        lesson: what it learns from.
        objective: what is minimised.
    """
    now = Step(form.numbers, form.plan, objective.value(form.plan, lesson))
    damping = DAMPING
    yield now
    while damping < CALMEST:
        matrix, gradient = _equations(form, now, lesson, objective)
        scale = matrix.diagonal() + 1e-9 * matrix.diagonal().max() + 1e-30
        better = None
        while better is None and damping < CALMEST:
            step = torch.linalg.solve(matrix + damping * torch.diag(scale), -gradient)
            better = _tried(form, now, now.numbers + step.numpy(), lesson, objective)
            damping *= CALMER if better is None else BOLDER
        if better is not None:
            now = better
            yield now


def _tried(form: Form, now: Step, numbers: Numbers, lesson: Lesson, objective: Objective) -> Step | None:
    try:
        plan = form.make(numbers)
    except (ValueError, OverflowError):  # numbers that make no plan
        return None
    value = objective.value(plan, lesson)
    return Step(numbers, plan, value) if value < now.value else None


def _equations(form: Form, now: Step, lesson: Lesson, objective: Objective) -> _Equations:
    nudged = []
    for place in range(len(now.numbers)):
        numbers = now.numbers.copy()
        numbers[place] += NUDGE
        nudged.append(form.make(numbers))
    count = len(nudged)
    matrix, gradient = torch.zeros(count, count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    for part in lesson.parts(max(1, MOST_NUMBERS // (count * lesson.compared))):
        recorded = _Recorded.of(now.plan, part)
        r = part.residual(recorded.images)
        columns = [(part.residual(recorded.rerun(plan)) - r) / NUDGE for plan in nudged]
        _, slope = objective.loss(r.square().mean(1), objective.delta)
        root = (slope / r.shape[1]).sqrt()[:, None]
        rows = (torch.stack(columns, -1) * root[..., None]).flatten(0, 1)
        matrix += (rows.T @ rows).cpu()
        gradient += (rows.T @ (r * root).flatten()).cpu()
    return _Equations(matrix, gradient)


@dataclass(frozen=True)
class _Recorded:
    """A run of a plan with all that was between its rows, from which a plan that differs later goes on."""

    plan: Plan
    lesson: Lesson
    memories: Sequence[Memory]  # before each row, and after the last
    x0s: Sequence[Tensor]

    @classmethod
    def of(cls, plan: Plan, lesson: Lesson) -> _Recorded:
        first = Memory(lesson.noise, lesson.noise)
        states = list(take_rows(plan, lesson.denoiser, first, lesson.class_labels))
        return cls(plan, lesson, [first, *(memory for memory, _ in states)], [x0 for _, x0 in states])

    @property
    def images(self) -> Tensor:
        return self.memories[-1].y

    def rerun(self, plan: Plan) -> Tensor:
        """Return what another plan makes of the noises; only what differs is computed."""
        pairs = enumerate(zip(plan.rows, self.plan.rows, strict=True))
        at = next((place for place, (row, known) in pairs if row != known), plan.nfe)
        memory = self.memories[at]
        if at < plan.nfe and plan.rows[at].level == self.plan.rows[at].level:
            memory = take_row(plan, plan.rows[at], memory, self.x0s[at], _no_noise)
            at += 1
        rest = take_rows(plan, self.lesson.denoiser, memory, self.lesson.class_labels, first=at)
        last, _ = deque(rest, maxlen=1).pop() if at < plan.nfe else (memory, None)
        return last.y


def _no_noise() -> Tensor:
    raise ValueError("a plan that draws noise cannot be tuned")
