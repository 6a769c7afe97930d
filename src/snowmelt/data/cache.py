"""Images that are decoded once: in memory, or in a file that all runs and processes share."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import psutil
import torch
from numpy.lib import format as npy
from torch import Tensor

from snowmelt.data.shared_files import find, find_or_make, folder
from snowmelt.errors import InputError
from snowmelt.files import atomic_write, check_writable
from snowmelt.formats import ImageSource, TensorSource
from snowmelt.images import Shape
from snowmelt.progress import progress

__all__ = ["CACHES", "Cache", "keep", "open_array", "write_array"]

Cache = Literal["auto", "memory", "disk", "none"]
CACHES: tuple[Cache, ...] = get_args(Cache)
MEMORY_SHARE = 0.25  # of the free memory, up to which auto keeps images there
DISK_SHARE = 0.5  # of the free disk space, up to which auto writes a file
TOGETHER = 64  # images that are decoded at once


def keep(
    images: ImageSource,
    shape: Shape,
    cache: Cache,
    *,
    num_workers: int = 0,
    show_progress: bool = False,
    write: bool = True,
) -> ImageSource:
    """Return the same images, decoded, as one array of bytes. Files are read from beginning to end, once.

    Args:
        images: to decode. Those in memory come back as they are.
        shape: of the images, with its size and its channels.
        cache: ``memory`` decodes them now. ``disk`` decodes them once into a file of the user's cache, and
            maps it into memory; other contents, or another shape, make another file. ``none`` decodes each
            image whenever it is read. ``auto`` is memory up to a quarter of what is free, then disk up to
            half of what is free there, else none, with a warning.
        num_workers: threads that decode.
        show_progress: show a bar if it takes a while.
        write: False makes no file: where ``disk`` does not find one, it is ``none``.

    Raises:
        InputError: an image cannot be decoded, or there is no room; the message says which and where.
    """
    if cache == "none" or isinstance(images, TensorSource):
        return images
    if cache == "auto":
        cache = _choice(images, shape)

    def decoded() -> Iterator[Tensor]:
        with progress(
            None, "Decoding", show=show_progress, total=len(images), unit=" images", delay=1
        ) as bar:
            for batch in images.batches(TOGETHER, num_workers):
                yield batch
                bar.update(len(batch))

    if cache == "memory":
        array = torch.empty(_array_size(images, shape), dtype=torch.uint8)
        for part, batch in zip(array.split(TOGETHER), decoded(), strict=True):
            part.copy_(batch)
    elif cache == "disk" and (write or find(images, shape) is not None):
        array = _on_disk(images, shape, decoded())
    else:
        return images
    return TensorSource(array, images.labels, images.class_names, images.name)


def write_array(path: Path, batches: Iterator[Tensor], shape: tuple[int, ...]) -> None:
    """Write batches of bytes, one after the other, as one NumPy file of that shape, whole or not at all."""
    with atomic_write(path) as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for batch in batches:
            file.write(batch.contiguous().numpy().data)


def open_array(path: Path) -> Tensor:
    """Return the array in a NumPy file; only what is used is in memory."""
    # Copied on write, since torch wants memory that it could write to
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def _on_disk(images: ImageSource, shape: Shape, decoded: Iterator[Tensor]) -> Tensor:
    """Return the array in the file of these images."""
    size = _array_size(images, shape)

    def make(path: Path) -> None:
        if missing := _missing(size, 1.0):
            raise InputError(
                f"{missing}: set XDG_CACHE_HOME to a folder with room, or data.loading.cache to memory or "
                "none"
            )
        write_array(path, decoded, size)

    return open_array(find_or_make(images, shape, make))


def _choice(images: ImageSource, shape: Shape) -> Cache:
    """Return where ``auto`` keeps the images."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of this run on this machine, as torchrun says
    size = _array_size(images, shape)
    needed = math.prod(size)
    if processes * needed <= MEMORY_SHARE * psutil.virtual_memory().available:
        return "memory"
    if find(images, shape) is not None or not (missing := _missing(size, DISK_SHARE)):
        return "disk"
    warnings.warn(
        f"The images are decoded anew in each epoch: they need {needed / 2**30:.1f} GiB of memory, or "
        f"of a disk, but {missing}. Take a smaller image_size, or set XDG_CACHE_HOME to a folder with room",
        stacklevel=2,
    )
    return "none"


def _missing(size: tuple[int, ...], share: float) -> str:
    """Return why an array does not fit into a share of what is free on the disk; nothing if it does."""
    try:
        check_writable(folder())
    except InputError:
        return f"{folder()} cannot be written to"
    there = next(each for each in (folder(), *folder().parents) if each.exists())
    free = shutil.disk_usage(there).free
    if math.prod(size) <= share * free:
        return ""
    needed, left = (f"{number / 2**30:.1f} GiB" for number in (math.prod(size), free))
    return f"{needed} of images are too much for {there}, which has {left} free"


def _array_size(images: ImageSource, shape: Shape) -> tuple[int, int, int, int]:
    (height, width), channels = shape.size or (0, 0), shape.channels or 0
    return len(images), channels, height, width
