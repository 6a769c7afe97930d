"""Evaluation: are the images good, are they new, are they useful.

It reads images (`open_images`), turns them into features (`extract_features`) and compares these
(`evaluate`). Training and evaluation do not import each other.
"""

from snowmelt.evaluation.answers.scores import Scores, evaluate
from snowmelt.evaluation.features import (
    EXTRACTORS,
    Extractor,
    Features,
    Moments,
    extract_features,
    is_statistics,
    make_extractor,
    open_reference,
)
from snowmelt.evaluation.metrics import METRICS, Metric
from snowmelt.evaluation.sampled import SampledSource
from snowmelt.evaluation.uncertainty import Estimate
from snowmelt.formats import ImageSource, TensorSource, open_images, renumber_classes

__all__ = [
    "EXTRACTORS",
    "METRICS",
    "Estimate",
    "Extractor",
    "Features",
    "ImageSource",
    "Metric",
    "Moments",
    "SampledSource",
    "Scores",
    "TensorSource",
    "evaluate",
    "extract_features",
    "is_statistics",
    "make_extractor",
    "open_images",
    "open_reference",
    "renumber_classes",
]
