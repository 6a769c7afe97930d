"""From images to features: extractors, and the features that metrics compare.

An extractor is a class or function of its own, listed here by name. The heavy libraries are imported when one
is made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from snowmelt.errors import InputError
from snowmelt.evaluation.features.extract import extract_features, open_reference
from snowmelt.evaluation.features.extractor import CallableExtractor, Extractor, pixels
from snowmelt.evaluation.features.features import Features
from snowmelt.evaluation.features.imagenet import ImageNetExtractor
from snowmelt.evaluation.features.inception import InceptionExtractor
from snowmelt.evaluation.features.moments import Moments, is_statistics
from snowmelt.evaluation.features.network_files import OnnxExtractor, TorchScriptExtractor
from snowmelt.evaluation.features.small_classifier import (
    ClassifierExtractor,
    SmallClassifier,
    classifier,
    train_classifier,
)
from snowmelt.evaluation.features.timm_models import TimmExtractor

__all__ = [
    "EXTRACTORS",
    "CallableExtractor",
    "ClassifierExtractor",
    "Extractor",
    "Features",
    "Moments",
    "SmallClassifier",
    "extract_features",
    "is_statistics",
    "make_extractor",
    "open_reference",
    "train_classifier",
]

EXTRACTORS: dict[str, Callable[..., Extractor]] = {
    "classifier": classifier,
    "imagenet": ImageNetExtractor,
    "inception": InceptionExtractor,
    "onnx": OnnxExtractor,
    "pixels": pixels,
    "timm": TimmExtractor,
    "torchscript": TorchScriptExtractor,
}

SUFFIXES = {".onnx": "onnx", ".pt": "torchscript", ".ts": "torchscript"}


def make_extractor(name: str | Path, **options: Any) -> Extractor:
    """Return an extractor by name.

    Args:
        name: ``imagenet``, ``inception``, ``classifier``, ``pixels``, ``timm:MODEL``, or a file ``.pt``,
            ``.ts`` (TorchScript) or ``.onnx``.
        options: of the extractor, such as ``weights`` or ``device``.

    Raises:
        InputError: the name is unknown, or the extractor cannot be made; the message says what to do.

    >>> make_extractor("pixels").name
    'pixels'
    """
    kind, _, model = str(name).partition(":")
    if kind == "timm" and model:
        return EXTRACTORS[kind](model, **options)
    if kind in ("imagenet", "inception", "classifier", "pixels") and not model:
        return EXTRACTORS[kind](**options)
    if (suffix := Path(name).suffix.lower()) in SUFFIXES:
        return EXTRACTORS[SUFFIXES[suffix]](name, **options)
    raise InputError(
        f"there is no extractor {name}: take imagenet, inception, classifier, pixels, timm:MODEL, or a file "
        f"{', '.join(SUFFIXES)}"
    )
