"""Levels, noise schedules and parameterizations: the mathematics that everything else stands on."""

from snowmelt.core.level import Level
from snowmelt.core.parameterization import PARAMETERIZATIONS, Parameterization, edm
from snowmelt.core.schedules import (
    BETA_SCHEDULES,
    VE,
    CosineVP,
    DiscreteSchedule,
    LinearVP,
    NoiseSchedule,
    RectifiedFlow,
    make_betas,
)

__all__ = [
    "BETA_SCHEDULES",
    "PARAMETERIZATIONS",
    "VE",
    "CosineVP",
    "DiscreteSchedule",
    "Level",
    "LinearVP",
    "NoiseSchedule",
    "Parameterization",
    "RectifiedFlow",
    "edm",
    "make_betas",
]
