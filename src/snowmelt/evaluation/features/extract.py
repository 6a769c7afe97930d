"""Features of all images of a source, computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.evaluation.features.extractor import CallableExtractor, Extractor
from snowmelt.evaluation.features.features import Features, read_array, write_array
from snowmelt.evaluation.features.moments import Moments, is_statistics
from snowmelt.formats import ImageSource, open_images
from snowmelt.progress import progress
from snowmelt.text import counted

__all__ = ["extract_features", "features_of_batches", "open_reference", "with_probabilities"]

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

    Args:
        source: N images.
        extractor: an extractor, or any function of images uint8 (B, C, H, W).
        batch_size: the number of images in a call, >= 1.
        cache: a folder that keeps the features under the hash of the images and the name of the extractor.
            The next call reads them there. None keeps nothing. A function without a name is not cached.
        show_progress: show a bar.

    Raises:
        ValueError: the extractor does not return one row for each image.

    >>> from snowmelt.evaluation.features import make_extractor
    >>> from snowmelt.formats import open_images
    >>> digits = extract_features(open_images("digits:test"), make_extractor("pixels"))
    >>> digits.values.shape, len(digits.of_class(3))
    (torch.Size([360, 64]), 37)
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    path = _cache_path(cache, source, extractor)
    values = read_array(path) if path is not None else None
    if values is None or values.ndim != 2 or len(values) != len(source):
        with progress(
            None, "Features", show=show_progress, total=len(source), unit="image", leave=False
        ) as bar:
            values = features_of_batches(source.batches(batch_size), extractor, bar.update)
        if path is not None:
            write_array(path, values)
    return with_probabilities(extractor, Features(values, source.labels, class_names=source.class_names))


def features_of_batches(
    batches: Iterable[Tensor],
    extractor: Extractor | Callable[[Tensor], Tensor],
    done: Callable[[int], object] = lambda count: None,
) -> Tensor:
    """Return the features of batches of images (B, C, H, W), float32 (N, D) on the CPU.

    Args:
        batches: uint8 images.
        extractor: as in `extract_features`.
        done: is told the number of images of each batch.
    """
    if not isinstance(extractor, Extractor):
        extractor = CallableExtractor(extractor)
    parts = []
    for images in batches:
        features = extractor(images)
        if features.ndim != 2 or len(features) != len(images):
            raise ValueError(
                f"the extractor {extractor.name} must return (B, D), and returned {tuple(features.shape)} "
                f"for {counted(len(images), 'image')}"
            )
        parts.append(features.detach().float().cpu())
        done(len(images))
    return torch.cat(parts)


def with_probabilities(extractor: object, features: Features) -> Features:
    """Return features with the class probabilities that their extractor gives them, if it is a classifier."""
    if (classify := getattr(extractor, "probabilities", None)) is None:
        return features
    probabilities = torch.cat([classify(rows) for rows in features.values.split(ROWS)])
    return replace(features, probabilities=probabilities)


def open_reference(
    real: ImageSource | str | Path,
    extractor: Extractor | Callable[[Tensor], Tensor],
    *,
    batch_size: int = 64,
    cache: str | Path | None = None,
    show_progress: bool = False,
) -> Features | Moments:
    """Return the features of real images, or the statistics in a file.

    With a cache, features, moments and neighbourhoods are computed once for the same images.

    Args:
        real: images, or a path as in `open_images`; or an ``.npz`` file with ``mu`` and ``sigma`` and without
            images, as pytorch-fid, clean-fid and `Moments.save` write it. The same extractor must have made
            the file.
        extractor, batch_size, cache, show_progress: as in `extract_features`.

    Raises:
        InputError: the file cannot be read, or has another number of features than the extractor.
    """
    if isinstance(real, str | Path) and is_statistics(real):
        moments = Moments.load(real)
        dim = extractor.dim if isinstance(extractor, Extractor) else None
        if dim is not None and dim != moments.dim:
            raise InputError(
                f"{real} holds statistics of {moments.dim} features, but the extractor has {dim}: "
                "both must come from the same one"
            )
        return moments
    source = open_images(real) if isinstance(real, str | Path) else real
    features = extract_features(
        source, extractor, batch_size=batch_size, cache=cache, show_progress=show_progress
    )
    path = _cache_path(cache, source, extractor)
    return features if path is None else replace(features, store=path.with_suffix(""))


def _cache_path(
    cache: str | Path | None, source: ImageSource, extractor: Extractor | Callable[[Tensor], Tensor]
) -> Path | None:
    """Return the file for the features of images; None without a cache, or if the extractor has no name."""
    if cache is None or not isinstance(extractor, Extractor) or not extractor.name:
        return None
    key = hashlib.sha256(f"{source.content_hash()} {extractor.name}".encode()).hexdigest()
    return Path(cache) / f"{key[:32]}.npy"
