"""What is to be a student: the teacher's network, without guidance, and the levels that it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from snowmelt.core import NoiseSchedule
from snowmelt.errors import InputError
from snowmelt.models import Checkpoint, DiffusionModel
from snowmelt.models.transfer_weights import transfer
from snowmelt.plans import Method

__all__ = ["MOST_STEPS", "check_steps", "make_student", "student_method", "student_rows"]

MOST_STEPS = 16  # from there on an untrained method does as well


def make_student(checkpoint: Checkpoint) -> DiffusionModel:
    """Return the teacher's model with its averaged weights and without a null class.

    Guidance is in what the student learns. So it needs no null class, and a sampler refuses to guide it.

    >>> from snowmelt import create_ddpm
    >>> teacher = create_ddpm(8, 1, 8, (1,), norm_groups=4, num_classes=3)
    >>> make_student(Checkpoint.of(teacher)).null_class is None
    True
    """
    if checkpoint.spec is None:
        raise InputError(
            f"{checkpoint.source} does not say how its network is built: only models that snowmelt builds "
            "have students"
        )
    student = replace(checkpoint.spec, has_null_class=False, class_dropout_prob=0.0).build()
    transfer(checkpoint, student, checkpoint.class_names or ())
    return student


def student_method(steps: int) -> Method:
    """Return how a student is sampled in so many steps: each leads straight to the next level (DDIM)."""
    return Method("ddim", steps)


def student_rows(schedule: NoiseSchedule, steps: Sequence[int]) -> list[float]:
    """Return the times at which a student is asked, in all numbers of steps: one an evaluation, with repeats.

    >>> from snowmelt.core import RectifiedFlow
    >>> student_rows(RectifiedFlow(), [1, 2, 4])
    [1.0, 1.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    """
    return [row.level.t for number in steps for row in student_method(number).plan(schedule).rows]


def check_steps(steps: Sequence[int]) -> list[int]:
    """Return the numbers of steps, in order; raise InputError unless they are between 1 and `MOST_STEPS`."""
    if not steps or not all(1 <= number <= MOST_STEPS for number in steps):
        raise InputError(
            f"a student has numbers of steps from 1 to {MOST_STEPS}, such as 1 2 4; got "
            f"{', '.join(map(str, steps)) or 'none'}"
        )
    return sorted(set(steps))
