"""Levels, noise schedules and parameterizations: the mathematics that everything else stands on."""

from snowmelt.core.continuous import VE, CosineVP, LinearVP, RectifiedFlow
from snowmelt.core.discrete import BETA_SCHEDULES, DiscreteSchedule, make_betas
from snowmelt.core.level import Level
from snowmelt.core.parameterization import PARAMETERIZATIONS, Parameterization, edm
from snowmelt.core.schedule import NoiseSchedule
from snowmelt.core.schedules import SCHEDULES, make_schedule
from snowmelt.core.times import TIMES, Time, find_time

__all__ = [
    "BETA_SCHEDULES",
    "PARAMETERIZATIONS",
    "SCHEDULES",
    "TIMES",
    "VE",
    "CosineVP",
    "DiscreteSchedule",
    "Level",
    "LinearVP",
    "NoiseSchedule",
    "Parameterization",
    "RectifiedFlow",
    "Time",
    "edm",
    "find_time",
    "make_betas",
    "make_schedule",
]
