"""Images that are slow to make or to decode, kept on the disk or in memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from snowmelt.files import atomic_write
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
                _write(path, batches(), len(source))
            # Copied on write, since torch wants memory that it could write to
            images = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    return TensorSource(images, source.labels, source.class_names, source.name)


def _write(path: Path, batches: Iterator[Tensor], count: int) -> None:
    """Write batches of uint8 images as one NumPy file, one after the other."""
    first = next(batches)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *first.shape[1:])}
    with atomic_write(path) as file:
        npy.write_array_header_1_0(file, header)
        for batch in chain([first], batches):
            file.write(batch.contiguous().numpy().tobytes())
