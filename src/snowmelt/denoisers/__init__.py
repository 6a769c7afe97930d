"""Denoisers: callables (x_t, level, class_labels) -> E[x0 | x_t], and what wraps around them."""

from snowmelt.denoisers.denoiser import Denoiser, NetworkDenoiser
from snowmelt.denoisers.guidance import ClassifierFreeGuidance
from snowmelt.denoisers.oracles import GaussianMixture
from snowmelt.denoisers.thresholding import THRESHOLDS, Clip, DynamicThresholding, keep_in_range
from snowmelt.models.ddpm import DDPMModel, create_ddpm

__all__ = [
    "THRESHOLDS",
    "ClassifierFreeGuidance",
    "Clip",
    "DDPMModel",
    "Denoiser",
    "DynamicThresholding",
    "GaussianMixture",
    "NetworkDenoiser",
    "create_ddpm",
    "keep_in_range",
]
