"""Training: `DiffusionTrainer`, its loss and its logger."""

from snowmelt.training.base import BaseTrainer
from snowmelt.training.logger import DiffusionLogger
from snowmelt.training.loss import denoising_loss
from snowmelt.training.rate_schedules import RATE_SCHEDULES, RateSchedule
from snowmelt.training.times import DISTRIBUTIONS, Times
from snowmelt.training.trainer import DiffusionTrainer
from snowmelt.training.uncertainty import Uncertainty
from snowmelt.training.weightings import WEIGHTINGS, Weighting

__all__ = [
    "DISTRIBUTIONS",
    "RATE_SCHEDULES",
    "WEIGHTINGS",
    "BaseTrainer",
    "DiffusionLogger",
    "DiffusionTrainer",
    "RateSchedule",
    "Times",
    "Uncertainty",
    "Weighting",
    "denoising_loss",
]
