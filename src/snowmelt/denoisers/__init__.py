"""Denoisers: callables (x_t, level, class_labels) -> E[x0 | x_t], and what wraps around them."""

from snowmelt.denoisers.denoiser import Answer, Answering, Denoiser, ask, eval_mode
from snowmelt.denoisers.guidance import ClassifierFreeGuidance
from snowmelt.denoisers.oracles import GaussianMixture
from snowmelt.denoisers.thresholding import THRESHOLDS, Clip, DynamicThresholding, keep_in_range

__all__ = [
    "THRESHOLDS",
    "Answer",
    "Answering",
    "ClassifierFreeGuidance",
    "Clip",
    "Denoiser",
    "DynamicThresholding",
    "GaussianMixture",
    "ask",
    "eval_mode",
    "keep_in_range",
]
