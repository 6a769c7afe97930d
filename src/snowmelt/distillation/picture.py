"""The picture that a distillation leaves: what teacher and student make of the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from snowmelt.distillation.student import student_method
from snowmelt.distillation.teacher import Teacher
from snowmelt.images import save_grid
from snowmelt.sampling import DiffusionSampler

__all__ = ["PICTURE", "save_picture"]

PICTURE = "students.png"


def save_picture(
    path: Path, teacher: Teacher, student: DiffusionSampler, steps: Sequence[int], numbers: range
) -> None:
    """Draw a row of the teacher's images, and below it one for each number of the student's steps.

    Args:
        path: the PNG file.
        teacher: makes the first row.
        student: the student's sampler.
        steps: numbers of evaluations.
        numbers: of the noise; the student has not seen it.
    """
    request = replace(teacher.request(numbers), guidance_scale=0.0)  # the student has it baked in
    rows = [teacher.images(numbers)]
    for number in steps:
        sampler = student.with_method(student_method(number))
        rows += [images.cpu() for images in sampler.batches(request)]
    captions = [name for name in ("teacher", *map(str, steps)) for _ in numbers]
    save_grid(torch.cat(rows), path, nrow=len(numbers), captions=captions)
