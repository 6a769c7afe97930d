"""Which extractor to use, checked before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from snowmelt.errors import InputError, require
from snowmelt.evaluation.features import Extractor, make_extractor
from snowmelt.evaluation.features.small_classifier import check_trainable, classifier
from snowmelt.formats import ImageSource

__all__ = ["choose_extractor"]

USUAL = "imagenet"


def choose_extractor(
    name: str | None,
    training: ImageSource | None,
    *,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    show_progress: bool = False,
) -> Callable[[str | Path | None], Extractor]:
    """Return a function that makes the extractor; its argument is a cache folder, or None.

    All that can fail happens here. Only the training of a classifier is left to the function.

    Args:
        name: as in `make_extractor`; None takes `USUAL`.
        training: images to train a classifier on; None if only statistics are known.
        weights: a file, for ``imagenet``, ``inception`` and timm.
        device: where to compute.
        show_progress: show a bar.

    Raises:
        InputError: the extractor is unknown or cannot be made; the message says what to do.

    >>> choose_extractor("pixels", None)(None).name
    'pixels'
    """
    require("scipy", "sklearn", "torchvision", needed_by="evaluation", extra="evaluate")
    name = name if name is not None else USUAL
    if name == "classifier":
        if training is None:
            raise InputError(
                "the extractor classifier needs images to train on, not their statistics: give --train"
            )
        check_trainable(training)
        images = training
        return lambda cache: classifier(images, cache=cache, device=device, show_progress=show_progress)
    options: dict[str, object] = {"weights": weights} if weights is not None else {}
    if name != "pixels" and Path(name).suffix.lower() != ".onnx":
        options["device"] = device
    try:
        extractor = make_extractor(name, **options)
    except TypeError as error:
        raise InputError(f"the extractor {name} takes no weights: leave --weights out") from error
    return lambda cache: extractor
