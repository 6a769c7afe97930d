"""What every format can do, and what a format is asked for.

A job's images are written in shards: image i is in shard ``i // shard_size``. A shard is a function of its
samples alone, so it may be written in any order, twice, or by any process, and its bytes are the same. What
is on the disk is the only memory: `Writer.missing` looks there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from pathlib import Path
from tarfile import TarError
from typing import Any, final
from zipfile import BadZipFile

import torch
from torch import Tensor

from snowmelt.errors import InputError, optional
from snowmelt.files import remove_leftovers
from snowmelt.images import decode_png, encode_png

__all__ = ["Sample", "Writer", "png_sample", "require", "sample_name"]

# A damaged file is found in as many ways as there are libraries that read it
DAMAGED = (OSError, ValueError, LookupError, BadZipFile, TarError)
NAMED_SHARDS = 5  # of those that are missing, in a message


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One finished image, and what it is.

    Attributes:
        index: its place in the whole job, from 0.
        image: uint8 (C, H, W), C = 1 or 3, on the CPU.
        class_label: its class; None for an unconditional model.
        seed: in [0, 2^63).
    """

    index: int
    image: Tensor
    class_label: int | None
    seed: int


class Writer(ABC):
    """Writes the images of one job into a folder, in one format.

    Args:
        folder: where; it is made when the first shard is written.
        num_samples: images in the whole job, >= 1.
        shard_size: images in a shard, >= 1; the last one may hold fewer.
        num_classes: of the model; None for an unconditional one, whose samples have no class label.
        class_names: one a class; None for zero-padded numbers, which sort as the numbers do.
        metadata: texts that all images have in common, for the formats that can carry them.

    Raises:
        ValueError: a number is out of range, or the names do not match the classes.
        InputError: the format needs a library that is absent.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        num_samples: int,
        shard_size: int,
        num_classes: int | None,
        class_names: Sequence[str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if num_samples < 1 or shard_size < 1:
            raise ValueError(
                f"num_samples and shard_size must be at least 1, got {num_samples} and {shard_size}"
            )
        self.folder = Path(folder)
        self.num_samples = num_samples
        self.shard_size = shard_size
        self.num_classes = num_classes
        self.class_names = _class_names(num_classes, class_names)
        self.metadata = dict(metadata or {})
        self._prepare()

    @property
    def shards(self) -> int:
        """How many shards the job has."""
        return ceil(self.num_samples / self.shard_size)

    def indices(self, shard: int) -> range:
        """Return the indices of the images in a shard."""
        if not 0 <= shard < self.shards:
            raise ValueError(f"shard must be 0 to {self.shards - 1}, got {shard}")
        return range(self.num_samples)[shard * self.shard_size : (shard + 1) * self.shard_size]

    @final
    def write(self, shard: int, samples: Sequence[Sample]) -> None:
        """Write a shard: all of its samples, and no others, in order.

        Each file appears whole or not at all. What is on the disk already is left as it is or replaced by
        the same bytes.

        Raises:
            ValueError: the samples are not those of this shard, or not all of one kind.
        """
        self._check(shard, samples)
        self._write(shard, samples)

    @final
    def finish(self) -> None:
        """Make one whole of the shards, which must all be there, and remove what a killed run left.

        Raises:
            InputError: a shard is missing.
        """
        missing = [str(shard) for shard in range(self.shards) if self.missing(shard)]
        if missing:
            named = ", ".join(missing[:NAMED_SHARDS]) + (", ..." if len(missing) > NAMED_SHARDS else "")
            raise InputError(
                f"{self.folder} lacks {len(missing)} of {self.shards} shards ({named}): write them first"
            )
        remove_leftovers(self.folder)
        self._join()

    @final
    def read(self, indices: Sequence[int]) -> list[Sample]:
        """Return images of a finished job, in the order asked for, exactly as they were written.

        Raises:
            ValueError: there is no image of that index.
            InputError: an image's file is absent or cannot be read.
        """
        wanted = sorted(set(indices))
        if wanted and not 0 <= wanted[0] <= wanted[-1] < self.num_samples:
            raise ValueError(f"indices must be 0 to {self.num_samples - 1}, got {wanted[0]} to {wanted[-1]}")
        try:
            found = {sample.index: sample for sample in self._read(wanted)}
        except DAMAGED as error:
            raise InputError(f"the images in {self.folder} cannot be read: {error}") from error
        return [found[index] for index in indices]

    @final
    def clear(self) -> None:
        """Remove the files that this job writes in its folder, finished or not, and nothing else."""
        for path in self._files():
            path.unlink(missing_ok=True)
        remove_leftovers(self.folder)
        for folder in self._subfolders():
            with suppress(OSError):  # it is not there, or holds what is not ours
                folder.rmdir()

    @abstractmethod
    def missing(self, shard: int) -> bool:
        """Return whether anything of a shard is not on the disk."""

    @abstractmethod
    def location(self, index: int, class_label: int | None) -> str:
        """Return the file that holds an image, relative to the folder, with forward slashes."""

    @abstractmethod
    def _write(self, shard: int, samples: Sequence[Sample]) -> None:
        """Write a shard's files, each whole or not at all."""

    @abstractmethod
    def _read(self, indices: Sequence[int]) -> Iterator[Sample]:
        """Yield images of a finished job; `indices` ascend."""

    @abstractmethod
    def _files(self) -> Iterator[Path]:
        """Yield all files that the job may have written, there or not."""

    def _prepare(self) -> None:  # noqa: B027
        """Check what the format alone demands; most demand nothing."""

    def _join(self) -> None:  # noqa: B027
        """Make one whole of the shards; most formats leave them as they are."""

    def _subfolders(self) -> Sequence[Path]:
        """Return the folders inside the folder that the job writes to."""
        return ()

    def _by_shard(self, indices: Sequence[int]) -> Iterator[tuple[int, Iterator[int]]]:
        """Yield each shard that holds some of `indices`, which ascend, with these."""
        return groupby(indices, key=lambda index: index // self.shard_size)

    def _texts(self, sample: Sample) -> dict[str, str]:
        """Return what a PNG file says about itself."""
        label = {} if sample.class_label is None else {"class": str(sample.class_label)}
        return {**self.metadata, "index": str(sample.index), **label, "seed": str(sample.seed)}

    def _png(self, sample: Sample) -> bytes:
        """Return an image as a PNG file's bytes, the same in all formats that hold PNG files."""
        return encode_png(sample.image, self._texts(sample))

    def _check(self, shard: int, samples: Sequence[Sample]) -> None:
        wanted, got = self.indices(shard), [sample.index for sample in samples]
        if got != list(wanted):
            raise ValueError(
                f"shard {shard} holds images {wanted.start} to {wanted.stop - 1} in order, got {got}"
            )
        shape = samples[0].image.shape
        for sample in samples:
            index, image, class_label = sample.index, sample.image, sample.class_label
            if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
                raise ValueError(
                    f"image {index} must be uint8 (1 or 3, H, W), got {image.dtype} {tuple(image.shape)}"
                )
            if image.shape != shape:
                raise ValueError(f"images of one job have one shape: {tuple(shape)}, {tuple(image.shape)}")
            if self.num_classes is None:
                valid = class_label is None
            else:
                valid = class_label is not None and 0 <= class_label < self.num_classes
            if not valid:
                raise ValueError(f"image {index} has class {class_label} of {self.num_classes} classes")


def sample_name(index: int) -> str:
    """Return the file name of image `index`.

    >>> sample_name(7), sample_name(12345)
    ('sample_0007.png', 'sample_12345.png')
    """
    return f"sample_{index:04d}.png"


def png_sample(data: bytes) -> Sample:
    """Return a PNG file's image with what the file says about it.

    Raises:
        OSError: the bytes are not a whole PNG file, or none that a writer has made.
    """
    image, texts = decode_png(data)
    label = texts.get("class")
    try:
        return Sample(
            int(texts["index"]), image, int(label) if label is not None else None, int(texts["seed"])
        )
    except KeyError as error:
        raise OSError(f"a PNG file does not state its {error}: it was not made by this job") from error


def require(name: str, format_name: str) -> Any:
    """Import a library that one format needs.

    Raises:
        InputError: it is not installed, or does not work with what is.
    """
    return optional(name, f"the format {format_name}", "formats")


def _class_names(num_classes: int | None, names: Sequence[str] | None) -> tuple[str, ...] | None:
    if num_classes is None:
        if names is not None:
            raise ValueError(f"an unconditional model has no class names, got {list(names)}")
        return None
    if names is None:
        width = len(str(num_classes - 1))
        return tuple(f"{label:0{width}d}" for label in range(num_classes))
    if len(names) != num_classes or len(set(names)) != num_classes:
        raise ValueError(f"class_names must be {num_classes} different names, got {list(names)}")
    return tuple(names)
