"""Tuning: a sampler made for one checkpoint, as numbers in a plan that a few noises have found."""

from snowmelt.tuning.job import Job, Outcome
from snowmelt.tuning.lesson import Lesson, distance
from snowmelt.tuning.losses import LOSSES
from snowmelt.tuning.teacher import Teacher, find_teacher
from snowmelt.tuning.tune import METHODS, Progress, Tuned, tune

__all__ = [
    "LOSSES",
    "METHODS",
    "Job",
    "Lesson",
    "Outcome",
    "Progress",
    "Teacher",
    "Tuned",
    "distance",
    "find_teacher",
    "tune",
]
