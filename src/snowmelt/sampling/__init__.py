"""Sampling: `DiffusionSampler`, and what it is made of."""

from snowmelt.sampling.families import (
    DDIMSampler,
    DDPMSampler,
    DEISSampler,
    DPMSolverSampler,
    EDMSampler,
    SASolverSampler,
    UniPCSampler,
)
from snowmelt.sampling.noise import SeededNoise, image_seeds
from snowmelt.sampling.request import Request
from snowmelt.sampling.sampler import DiffusionSampler

__all__ = [
    "DDIMSampler",
    "DDPMSampler",
    "DEISSampler",
    "DPMSolverSampler",
    "DiffusionSampler",
    "EDMSampler",
    "Request",
    "SASolverSampler",
    "SeededNoise",
    "UniPCSampler",
    "image_seeds",
]
