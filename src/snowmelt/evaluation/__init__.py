"""Evaluation: are the images good, are they new, are they useful.

Beside training, and like it above sampling: it reads images from wherever they are (`open_images`), turns
them into features (`extract`) and compares these (`evaluate`).
"""

from snowmelt.evaluation.evaluate import Evaluation, evaluate
from snowmelt.evaluation.features import EXTRACTORS, Extractor, extract, make_extractor
from snowmelt.evaluation.metrics import METRICS, Features, Figure, Moments
from snowmelt.evaluation.reference import extract_features, is_statistics, open_reference
from snowmelt.evaluation.sources import SampledSource
from snowmelt.formats import ImageSource, TensorSource, open_images
from snowmelt.formats.classes import renumber_classes

__all__ = [
    "EXTRACTORS",
    "METRICS",
    "Evaluation",
    "Extractor",
    "Features",
    "Figure",
    "ImageSource",
    "Moments",
    "SampledSource",
    "TensorSource",
    "evaluate",
    "extract",
    "extract_features",
    "is_statistics",
    "make_extractor",
    "open_images",
    "open_reference",
    "renumber_classes",
]
