"""Training: `DiffusionTrainer`, its loss and its logger."""

from snowmelt.training.base import BaseTrainer
from snowmelt.training.logger import DiffusionLogger
from snowmelt.training.loss import denoising_loss
from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["BaseTrainer", "DiffusionLogger", "DiffusionTrainer", "denoising_loss"]
