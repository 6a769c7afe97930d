"""Sampling: `DiffusionSampler` and what turns its samples into files."""

from snowmelt.sampling.families import DDIMSampler, DDPMSampler, DPMSolverSampler, EDMSampler
from snowmelt.sampling.labels import balanced_labels
from snowmelt.sampling.noise import SeededNoise, image_seeds
from snowmelt.sampling.sampler import DiffusionSampler, ImageModel

__all__ = [
    "DDIMSampler",
    "DDPMSampler",
    "DPMSolverSampler",
    "DiffusionSampler",
    "EDMSampler",
    "ImageModel",
    "SeededNoise",
    "balanced_labels",
    "image_seeds",
]
