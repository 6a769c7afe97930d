"""Sampling: `DiffusionSampler` and what it needs."""

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
from snowmelt.sampling.sampler import DiffusionSampler, ImageModel

__all__ = [
    "DDIMSampler",
    "DDPMSampler",
    "DEISSampler",
    "DPMSolverSampler",
    "DiffusionSampler",
    "EDMSampler",
    "ImageModel",
    "SASolverSampler",
    "SeededNoise",
    "UniPCSampler",
    "image_seeds",
]
