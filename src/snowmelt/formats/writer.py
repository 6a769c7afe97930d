"""What can be written: a writer puts the images of one job into a folder, in one format.

A job's images are written in shards: image i is in shard ``i // shard_size``. The bytes of a shard depend on
its images alone, so any process may write it, in any order, twice if need be. Nothing is remembered between
two runs: `Writer.missing` looks at the disk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import IO, Any, ClassVar, final

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.files import atomic_write, remove_leftovers
from snowmelt.formats.file_source import FileSource
from snowmelt.images import CHANNELS, Shape, encode_png
from snowmelt.text import counted

__all__ = ["Writer", "class_numbers", "image_texts", "sample_name"]


@dataclass(eq=False)
class Writer(ABC):
    """Writes the images of one job into a folder, in one format.

    A format has a name. It says in which file an image lies (`location`), what such a file contains
    (`_pack`), and which source reads these files.

    Args:
        folder: where; it is made when the first shard is written.
        seeds: one an image, in [0, 2^63).
        class_labels: one an image; None for an unconditional model.
        shard_size: images in a shard, >= 1; the last one may hold fewer.
        class_names: the name of each class, such as `class_numbers` gives; None for an unconditional model.
        metadata: texts that all images have in common, for the formats that can carry them.

    Raises:
        ValueError: a number is out of range, or the labels do not match the classes.
        InputError: the format needs a library that is absent, or cannot use a class name.
    """

    folder: Path
    seeds: Sequence[int]
    class_labels: Sequence[int] | None
    _: KW_ONLY
    shard_size: int
    class_names: Sequence[str] | None
    metadata: Mapping[str, str] = field(default_factory=dict)

    name: ClassVar[str]
    source: ClassVar[Callable[..., FileSource]]

    def __post_init__(self) -> None:
        if len(self.seeds) < 1 or self.shard_size < 1:
            raise ValueError(f"{len(self.seeds)} seeds, shard_size {self.shard_size}: both are at least 1")
        if len(set(self.class_names or ())) < len(self.class_names or ()):
            raise ValueError(f"class_names must differ, got {self.class_names}")
        labels = [None] * len(self.seeds) if self.class_labels is None else self.class_labels
        classes = {None} if self.class_names is None else set(range(len(self.class_names)))
        if len(labels) != len(self.seeds) or not classes.issuperset(labels):
            raise ValueError(
                f"each of {len(self.seeds)} images needs one of the classes {self.class_names}, got "
                f"class_labels = {self.class_labels}"
            )
        self.folder = Path(self.folder)

    @property
    def num_samples(self) -> int:
        """How many images the job has."""
        return len(self.seeds)

    @property
    def layout(self) -> dict[str, Any]:
        """What decides which image is in which file, as JSON can hold it."""
        return {
            "format": self.name,
            "num_samples": self.num_samples,
            "shard_size": self.shard_size,
            "class_names": self.class_names and list(self.class_names),
        }

    @property
    def shards(self) -> int:
        """How many shards the job has."""
        return ceil(self.num_samples / self.shard_size)

    def indices(self, shard: int) -> range:
        """Return the indices of the images in a shard."""
        if not 0 <= shard < self.shards:
            raise ValueError(f"shard must be 0 to {self.shards - 1}, got {shard}")
        return range(self.num_samples)[shard * self.shard_size : (shard + 1) * self.shard_size]

    def missing(self, shard: int) -> bool:
        """Return whether anything of a shard is not on the disk."""
        return not all(path.exists() for path, _ in groupby(self.indices(shard), self._place))

    @final
    def write(self, shard: int, images: Tensor) -> None:
        """Write all images of a shard.

        Each file appears whole or not at all. Files that are there already stay as they are.

        Args:
            shard: which one.
            images: uint8 (len(indices(shard)), C, H, W), C = 1, 3 or 4, on the CPU.

        Raises:
            ValueError: the images have another shape or type.
        """
        indices = self.indices(shard)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in CHANNELS:
            raise ValueError(f"images must be uint8 (N, 1, 3 or 4, H, W), got {images.dtype} {images.shape}")
        if len(images) != len(indices):
            raise ValueError(f"shard {shard} holds {counted(len(indices), 'image')}, got {len(images)}")
        first = indices.start
        for path, group in groupby(indices, self._place):
            held = list(group)
            if not path.exists():
                with atomic_write(path) as file:
                    self._pack(file, held, images[held[0] - first : held[-1] - first + 1])

    @final
    def finish(self) -> None:
        """Join the shards, which must all be there, and remove what a killed run left.

        Raises:
            InputError: a shard is missing.
        """
        if missing := sum(map(self.missing, range(self.shards))):
            raise InputError(
                f"{self.folder} lacks {missing} of {counted(self.shards, 'shard')}: write them first"
            )
        remove_leftovers(self.folder)
        self._join()

    @final
    def clear(self) -> None:
        """Remove the files that this job writes in its folder, finished or not, and nothing else."""
        remove_leftovers(self.folder)
        for path in self._own():
            if not path.is_dir():
                path.unlink(missing_ok=True)
            elif not any(path.iterdir()):
                path.rmdir()

    @final
    def written(self) -> FileSource:
        """Return the images of a finished job as a source, in the order of their indices.

        Raises:
            InputError: a file cannot be read, or an image is missing.
        """
        files = dict.fromkeys(self.folder / self.location(index) for index in range(self.num_samples))
        source = self.source(self.folder, list(files), Shape())
        if len(source) != self.num_samples:
            raise InputError(
                f"{self.folder} holds {len(source)} of {counted(self.num_samples, 'image')}: make it anew"
            )
        return source

    @abstractmethod
    def location(self, index: int) -> str:
        """Return the file that holds an image, relative to the folder, with forward slashes."""

    @abstractmethod
    def _pack(self, file: IO[bytes], indices: Sequence[int], images: Tensor) -> None:
        """Write the content of a file that holds these images."""

    def _join(self) -> None:  # noqa: B027
        """Make one whole of the shards; most formats leave them as they are."""

    def _own(self) -> Iterable[Path]:
        """Return all files, and then all folders, that the job may have made, whether they exist or not."""
        return map(self._place, range(self.num_samples))

    def _place(self, index: int) -> Path:
        """Return the file that an image is written to now; before `finish`, it may be another one."""
        return self.folder / self.location(index)

    def _png(self, index: int, image: Tensor) -> bytes:
        """Return an image as a PNG file's bytes, the same in all formats that hold PNG files."""
        label = None if self.class_labels is None else self.class_labels[index]
        return encode_png(image, image_texts(self.metadata, index, label, self.seeds[index]))


def image_texts(metadata: Mapping[str, str], index: int, label: int | None, seed: int) -> dict[str, str]:
    """Return the texts that the file of an image carries.

    >>> image_texts({"plan": "ddim"}, 0, None, 5)
    {'plan': 'ddim', 'index': '0', 'seed': '5'}
    """
    of_class = {} if label is None else {"class": str(label)}
    return {**metadata, "index": str(index), **of_class, "seed": str(seed)}


def sample_name(index: int) -> str:
    """Return the file name of image `index`.

    >>> sample_name(7), sample_name(12345)
    ('sample_0007.png', 'sample_12345.png')
    """
    return f"sample_{index:04d}.png"


def class_numbers(num_classes: int) -> list[str]:
    """Return zero-padded numbers, which sort as the numbers do, as names of classes.

    >>> class_numbers(11)[-2:]
    ['09', '10']
    """
    return [f"{label:0{len(str(num_classes - 1))}d}" for label in range(num_classes)]
