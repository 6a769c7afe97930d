"""Features of all images of a source, computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snowmelt.evaluation.features.extractor import CallableExtractor, Extractor
from snowmelt.files import atomic_write
from snowmelt.formats import ImageSource
from snowmelt.progress import progress

__all__ = ["cache_path", "extract"]


def extract(
    source: ImageSource,
    extractor: Extractor | Callable[[Tensor], Tensor],
    *,
    batch_size: int = 64,
    cache: str | Path | None = None,
    show_progress: bool = False,
) -> Tensor:
    """Return the features (N, D) of a source's images, float32 on the CPU, in their order.

    Args:
        source: of N images.
        extractor: an extractor, or any function of images uint8 (B, C, H, W).
        batch_size: images a call, >= 1.
        cache: a folder where they are kept under the hash of the images and the name of the extractor, and
            found again; None keeps nothing. A function without a name is not cached.
        show_progress: show a bar.

    Raises:
        ValueError: the extractor does not return one row an image.

    >>> from snowmelt.evaluation.features.pixels import pixels
    >>> from snowmelt.formats import open_images
    >>> extract(open_images("digits:test"), pixels()).shape
    torch.Size([360, 64])
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not isinstance(extractor, Extractor):
        extractor = CallableExtractor(extractor)
    path = cache_path(cache, source, extractor, ".npy") if cache is not None and extractor.name else None
    if path is not None and (found := _read(path, len(source))) is not None:
        return found
    features = _extracted(source, extractor, batch_size, show_progress)
    if path is not None:
        with atomic_write(path) as file:
            np.save(file, features.numpy())
    return features


def cache_path(cache: str | Path, source: ImageSource, extractor: Extractor, suffix: str) -> Path:
    """Return the file in a cache folder that belongs to images and an extractor."""
    key = hashlib.sha256(f"{source.content_hash()} {extractor.name}".encode()).hexdigest()
    return Path(cache) / f"{key[:32]}{suffix}"


def _read(path: Path, count: int) -> Tensor | None:
    """Return cached features; None where there are none, or none that can be used."""
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return torch.from_numpy(features) if features.ndim == 2 and len(features) == count else None


def _extracted(source: ImageSource, extractor: Extractor, batch_size: int, show_progress: bool) -> Tensor:
    parts = []
    with progress(None, "Features", show=show_progress, total=len(source), unit="image", leave=False) as bar:
        for images in source.batches(batch_size):
            features = extractor(images)
            if features.ndim != 2 or len(features) != len(images):
                raise ValueError(
                    f"the extractor {extractor.name} must return (B, D), and returned "
                    f"{tuple(features.shape)} for {len(images)} images"
                )
            parts.append(features.detach().float().cpu())
            bar.update(len(images))
    return torch.cat(parts)
