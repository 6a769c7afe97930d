"""Features of images with all that belongs to them, and the reference for generated images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.evaluation.features import Extractor, extract
from snowmelt.evaluation.features.extract import cache_path
from snowmelt.evaluation.metrics import Features, Moments
from snowmelt.formats import ImageSource, open_images

__all__ = ["extract_features", "is_statistics", "open_reference"]

ROWS = 4096


def extract_features(
    source: ImageSource,
    extractor: Extractor | Callable[[Tensor], Tensor],
    *,
    batch_size: int = 64,
    cache: str | Path | None = None,
    show_progress: bool = False,
) -> Features:
    """Return what the metrics take: features, labels, class names and, of a classifier, probabilities.

    The arguments are those of `extract`.

    >>> from snowmelt.evaluation.features import make_extractor
    >>> digits = extract_features(open_images("digits:test"), make_extractor("pixels"))
    >>> len(digits), len(digits.of_class(3))
    (360, 37)
    """
    values = extract(source, extractor, batch_size=batch_size, cache=cache, show_progress=show_progress)
    probabilities = None
    if (classify := getattr(extractor, "probabilities", None)) is not None:
        probabilities = torch.cat([classify(rows) for rows in values.split(ROWS)])
    return Features(values, source.labels, probabilities, source.class_names)


def open_reference(
    real: ImageSource | str | Path,
    extractor: Extractor | Callable[[Tensor], Tensor],
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    batch_size: int = 64,
    cache: str | Path | None = None,
    show_progress: bool = False,
) -> Features | Moments:
    """Return the features of real images, or the statistics that a file holds in their place.

    With a cache, features, moments and neighbourhoods are computed once for the same images.

    Args:
        real: images; or a path as for `open_images`; or an ``.npz`` file with ``mu`` and ``sigma`` and
            without images, as pytorch-fid, clean-fid and `Moments.save` write them. The same extractor must
            have made it.
        extractor, batch_size, cache, show_progress: as for `extract`.
        image_size, channels: as for `open_images`.

    Raises:
        InputError: there is neither, or the statistics have another number of features.
    """
    if isinstance(real, str | Path) and is_statistics(real):
        moments = Moments.load(real)
        dim = extractor.dim if isinstance(extractor, Extractor) else None
        if dim is not None and dim != len(moments.mean):
            raise InputError(
                f"{real} holds statistics of {len(moments.mean)} features, but the extractor has {dim}: "
                "both must come from the same one"
            )
        return moments
    if isinstance(real, str | Path):
        real = open_images(real, image_size=image_size, channels=channels)
    features = extract_features(
        real, extractor, batch_size=batch_size, cache=cache, show_progress=show_progress
    )
    if cache is None or not isinstance(extractor, Extractor) or not extractor.name:
        return features
    return replace(features, store=cache_path(cache, real, extractor, ""))


def is_statistics(path: str | Path) -> bool:
    """Return whether a path is an ``.npz`` file with ``mu`` in place of images."""
    path = Path(path)
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        with np.load(path, allow_pickle=False) as file:
            # guided-diffusion's reference batches hold both: images tell more
            return "mu" in file and "arr_0" not in file
    except (OSError, ValueError):
        return False
