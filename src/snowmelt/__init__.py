"""Snowmelt: train image diffusion models and, strictly apart from that, sample from them.

The public names below are loaded when they are first asked for (PEP 562), so that a process that only
samples never loads the trainer, and a process that only asks for the version loads nothing.

>>> import snowmelt
>>> model = snowmelt.create_ddpm(image_size=8, in_channels=1, model_channels=32)
>>> snowmelt.DiffusionSampler(model, solver="ddim", steps=2).sample(num_samples=1).shape
torch.Size([1, 1, 8, 8])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from snowmelt._version import __version__
from snowmelt.errors import optional

if TYPE_CHECKING:
    from snowmelt.data import DiffusionDataLoader
    from snowmelt.models import EMA, Checkpoint, DDPMModel, DiffusionModel, create_ddpm, create_model
    from snowmelt.plans import Method, Plan, make_plan, make_preset
    from snowmelt.sampling import (
        DDIMSampler,
        DDPMSampler,
        DEISSampler,
        DiffusionSampler,
        DPMSolverSampler,
        EDMSampler,
        Request,
        SASolverSampler,
        UniPCSampler,
    )
    from snowmelt.training import BaseTrainer, DiffusionLogger, DiffusionTrainer

_HOMES = {
    "Checkpoint": "snowmelt.models",
    "DiffusionModel": "snowmelt.models",
    "Method": "snowmelt.plans",
    "Request": "snowmelt.sampling",
    "create_model": "snowmelt.models",
    "BaseTrainer": "snowmelt.training",
    "DDIMSampler": "snowmelt.sampling",
    "DDPMModel": "snowmelt.models",
    "DDPMSampler": "snowmelt.sampling",
    "DEISSampler": "snowmelt.sampling",
    "DPMSolverSampler": "snowmelt.sampling",
    "DiffusionDataLoader": "snowmelt.data",
    "DiffusionLogger": "snowmelt.training",
    "DiffusionSampler": "snowmelt.sampling",
    "DiffusionTrainer": "snowmelt.training",
    "EDMSampler": "snowmelt.sampling",
    "EMA": "snowmelt.models",
    "Plan": "snowmelt.plans",
    "SASolverSampler": "snowmelt.sampling",
    "UniPCSampler": "snowmelt.sampling",
    "create_ddpm": "snowmelt.models",
    "make_plan": "snowmelt.plans",
    "make_preset": "snowmelt.plans",
}

_TO_TRAIN = {"snowmelt.data", "snowmelt.training"}  # what snowmelt[train] installs libraries for

__all__ = [
    "EMA",
    "BaseTrainer",
    "Checkpoint",
    "DDIMSampler",
    "DDPMModel",
    "DDPMSampler",
    "DEISSampler",
    "DPMSolverSampler",
    "DiffusionDataLoader",
    "DiffusionLogger",
    "DiffusionModel",
    "DiffusionSampler",
    "DiffusionTrainer",
    "EDMSampler",
    "Method",
    "Plan",
    "Request",
    "SASolverSampler",
    "UniPCSampler",
    "__version__",
    "create_ddpm",
    "create_model",
    "make_plan",
    "make_preset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'snowmelt' has no attribute {name!r}")
    home = _HOMES[name]
    module = optional(home, f"snowmelt.{name}", "train") if home in _TO_TRAIN else import_module(home)
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
