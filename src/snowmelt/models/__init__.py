"""Models: what predicts, and what was trained.

`DiffusionModel` is a network with all that has to be known of it, `Checkpoint` is what stands in a file.
"""

from snowmelt.models.checkpoint import Checkpoint
from snowmelt.models.create import create_ddpm, create_model
from snowmelt.models.ddpm import DDPMModel
from snowmelt.models.ema import EMA
from snowmelt.models.model import DiffusionModel
from snowmelt.models.spec import ModelSpec
from snowmelt.models.transfer_weights import transfer
from snowmelt.models.weights import CheckpointError, CheckpointNotFoundError, load_weights

__all__ = [
    "EMA",
    "Checkpoint",
    "CheckpointError",
    "CheckpointNotFoundError",
    "DDPMModel",
    "DiffusionModel",
    "ModelSpec",
    "create_ddpm",
    "create_model",
    "load_weights",
    "transfer",
]
