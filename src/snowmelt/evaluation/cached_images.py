"""Images that are slow to make or to decode, kept on the disk or in memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from snowmelt.data.cache import open_array, write_array
from snowmelt.formats import ImageSource, TensorSource
from snowmelt.progress import progress

__all__ = ["cache_images"]


def cache_images(
    source: ImageSource, cache: str | Path | None = None, *, batch_size: int = 64, show_progress: bool = False
) -> TensorSource:
    """Return a source with the same images, which are read once.

    Args:
        source: to read.
        cache: a folder that keeps the images under the hash of the source. The next call reads them there,
            and only the images in use are in memory. None holds all images in memory.
        batch_size: the number of images in a batch.
        show_progress: show a bar.

    >>> from snowmelt.formats import open_images
    >>> len(cache_images(open_images("digits:test")))
    360
    """
    with progress(None, "Images", show=show_progress, total=len(source), unit="image", leave=False) as bar:

        def batches() -> Iterator[Tensor]:
            for batch in source.batches(batch_size):
                yield batch
                bar.update(len(batch))

        if cache is None:
            images = torch.cat(list(batches()))
        else:
            path = Path(cache) / f"{source.content_hash()[:32]}.images.npy"
            if not path.exists():
                write_array(path, *_measured(batches(), len(source)))
            images = open_array(path)
    return TensorSource(images, source.labels, source.class_names, source.name)


def _measured(batches: Iterator[Tensor], count: int) -> tuple[Iterator[Tensor], tuple[int, ...]]:
    """Return the same batches, and the shape of all images, as the first one shows it."""
    first = next(batches)
    return chain([first], batches), (count, *first.shape[1:])
