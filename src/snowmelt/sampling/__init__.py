"""Sampling: `DiffusionSampler` and what turns its samples into files."""

from snowmelt.sampling.labels import balanced_labels
from snowmelt.sampling.noise import SeededNoise, image_seeds
from snowmelt.sampling.sampler import DiffusionSampler, ImageModel

__all__ = ["DiffusionSampler", "ImageModel", "SeededNoise", "balanced_labels", "image_seeds"]
