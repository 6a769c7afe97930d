"""Images that are decoded once: in memory, or in a file that all runs and processes share."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import psutil
import torch
from filelock import FileLock
from numpy.lib import format as npy
from torch import Tensor

from snowmelt.data.batches import ahead
from snowmelt.data.images import Images, InMemory
from snowmelt.digest import content_digest
from snowmelt.errors import InputError
from snowmelt.files import atomic_write, check_writable, user_cache
from snowmelt.progress import progress

__all__ = ["CACHES", "Cache", "keep", "open_array", "write_array"]

Cache = Literal["auto", "memory", "disk", "none"]
CACHES: tuple[Cache, ...] = get_args(Cache)
MEMORY_SHARE = 0.25  # of the free memory, up to which auto keeps images there
DISK_SHARE = 0.5  # of the free disk space, up to which auto writes a file
PREPARATION = 1  # another number wherever the same file becomes other pixels
TOGETHER = 64  # images that are decoded at once


def keep(images: Images, cache: Cache, *, num_workers: int = 0, show_progress: bool = False) -> Images:
    """Return the same images, decoded, as one array of bytes.

    Args:
        images: to decode. Those that are decoded already come back as they are.
        cache: ``memory`` decodes them now. ``disk`` decodes them once into a file of the user's cache, and
            maps it into memory; a changed image, or another shape, makes another file. ``none`` decodes each
            image whenever it is read. ``auto`` is memory up to a quarter of what is free, then disk up to
            half of what is free there, else none, with a warning.
        num_workers: threads that decode.
        show_progress: show a bar if it takes a while.

    Raises:
        InputError: an image cannot be decoded, or there is no room; the message says which and where.
    """
    if cache == "none" or isinstance(images, InMemory):
        return images
    if cache == "auto":
        cache = _choice(images)

    def decoded() -> Iterator[Tensor]:
        parts = [range(len(images))[start : start + TOGETHER] for start in range(0, len(images), TOGETHER)]
        with progress(
            None, "Decoding", show=show_progress, total=len(images), unit=" images", delay=1
        ) as bar:
            for batch in ahead(images.read, parts, num_workers):
                yield batch
                bar.update(len(batch))

    if cache == "memory":
        array = torch.empty(_array_shape(images), dtype=torch.uint8)
        for part, batch in zip(array.split(TOGETHER), decoded(), strict=True):
            part.copy_(batch)
    elif cache == "disk":
        array = _on_disk(images, decoded())
    else:
        return images
    return InMemory(array, images.labels, images.classes)


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


def _on_disk(images: Images, decoded: Iterator[Tensor]) -> Tensor:
    """Return the array in the file of these images, which the first process that comes here writes."""
    path = _file(images)
    if path.exists():
        return open_array(path)
    if missing := _missing(images, 1.0):
        raise InputError(
            f"{missing}: set XDG_CACHE_HOME to a folder with room, or data.loading.cache to memory or none"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.name.partition("-")[0]
    with FileLock(path.parent / f"{place}.lock"):
        if not path.exists():
            write_array(path, decoded, _array_shape(images))
            for old in path.parent.glob(f"{place}-*.npy"):
                if old != path:
                    with suppress(OSError):  # Windows keeps a file that is in use
                        old.unlink()
        return open_array(path)


def _choice(images: Images) -> Cache:
    """Return where ``auto`` keeps the images."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of this run on this machine, as torchrun says
    if processes * _size(images) <= MEMORY_SHARE * psutil.virtual_memory().available:
        return "memory"
    if _file(images).exists() or not (missing := _missing(images, DISK_SHARE)):
        return "disk"
    warnings.warn(
        f"The images are decoded anew in each epoch: they need {_size(images) / 2**30:.1f} GiB of memory, or "
        f"of a disk, but {missing}. Take a smaller image_size, or set XDG_CACHE_HOME to a folder with room",
        stacklevel=2,
    )
    return "none"


def _missing(images: Images, share: float) -> str:
    """Return why the images do not fit into a share of what is free on the disk; nothing if they do."""
    try:
        check_writable(_folder())
    except InputError:
        return f"{_folder()} cannot be written to"
    there = next(each for each in (_folder(), *_folder().parents) if each.exists())
    free = shutil.disk_usage(there).free
    if _size(images) <= share * free:
        return ""
    needed, left = (f"{number / 2**30:.1f} GiB" for number in (_size(images), free))
    return f"{needed} of images are too much for {there}, which has {left} free"


def _file(images: Images) -> Path:
    """Return where the array lies: the first half of its name stays when the images change."""
    place = content_digest(images.place, images.shape, PREPARATION)[:16]
    return _folder() / f"{place}-{content_digest(images.contents())[:32]}.npy"


def _folder() -> Path:
    return (user_cache() / "images").absolute()


def _array_shape(images: Images) -> tuple[int, int, int, int]:
    (height, width), channels = images.shape.size or (0, 0), images.shape.channels or 0
    return len(images), channels, height, width


def _size(images: Images) -> int:
    return math.prod(_array_shape(images))
