"""The teacher: a plan so fine that its error does not matter, by its own estimate."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from snowmelt.core import NoiseSchedule
from snowmelt.plans import PRESETS, Method, Plan
from snowmelt.tuning.lesson import distance

__all__ = ["FIRST_STEPS", "MOST_STEPS", "Teacher", "find_teacher", "fine_plan"]

FIRST_STEPS, MOST_STEPS = 20, 320
GAIN = 3.0  # twice the steps, a fourth of an error of order 2: the finer plan has a third of the difference


class Teacher(NamedTuple):
    """A fine plan.

    Attributes:
        method: how it is said.
        plan: the plan.
        error: its estimated distance from the exact solution.
    """

    method: Method
    plan: Plan
    error: float


def find_teacher(schedule: NoiseSchedule, run: Callable[[Plan], Tensor], wanted: float) -> Teacher:
    """Double the steps of the preset ``quality`` until its estimated error is small enough.

    Args:
        schedule: of the network.
        run: makes images of a few noises by a plan.
        wanted: the largest error that does not matter, in units of the images' values.

    >>> from snowmelt.core import RectifiedFlow
    >>> find_teacher(RectifiedFlow(), lambda plan: Tensor([1 / plan.nfe]), wanted=0.01).plan.nfe
    40
    """
    steps = min(FIRST_STEPS, schedule.num_timesteps or FIRST_STEPS)
    most = min(MOST_STEPS, schedule.num_timesteps or MOST_STEPS)
    teacher = fine_plan(schedule, steps)
    images = run(teacher.plan)
    while 2 * steps <= most:
        steps *= 2
        finer = fine_plan(schedule, steps)
        others = run(finer.plan)
        teacher = finer._replace(error=distance(images, others) / GAIN)
        if teacher.error <= wanted:
            break
        images = others
    return teacher


def fine_plan(schedule: NoiseSchedule, steps: int) -> Teacher:
    """Return the preset ``quality`` with so many steps, whose error is not known yet."""
    quality = PRESETS["quality"]
    method = Method(quality.solver, steps, quality.grid, quality.options)
    return Teacher(method, method.plan(schedule), float("inf"))
