"""One ``samples.npz``, as evaluators of FID take it: the layout of guided-diffusion's reference batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.formats.source import FileSource, reading
from snowmelt.formats.writer import Writer
from snowmelt.images import Shape

__all__ = ["NpzSource", "NpzWriter", "open_npz"]

NAME = "samples.npz"
PARTS = ".parts"
IMAGES, LABELS, SEEDS = "arr_0", "arr_1", "seeds"
LABEL_ARRAYS = (LABELS, "labels")
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class NpzSource(FileSource):
    """The rows of ``arr_0`` in an ``.npz`` file, uint8 (N, H, W, C), with integer labels beside it, if any.

    No more than one batch of them is in memory.
    """

    def __init__(self, path: Path, files: Sequence[Path], shape: Shape) -> None:
        (self.path,) = files
        with reading(self.path, f"images (an npz file with {IMAGES}, uint8 (N, H, W, C), is needed)"):
            with ZipFile(self.path) as archive, archive.open(f"{IMAGES}.npy") as member:
                dimensions, _, dtype = _read_header(member)
            with np.load(self.path, allow_pickle=False) as file:
                labels = next((file[name] for name in LABEL_ARRAYS if name in file), None)
        if dtype != np.uint8 or len(dimensions) != 4 or dimensions[-1] not in (1, 3):
            raise InputError(
                f"{self.path} has {IMAGES} {dtype} {dimensions}: uint8 (N, H, W, 1 or 3) is needed"
            )
        count = dimensions[0]
        if labels is not None and (labels.shape != (count,) or labels.dtype.kind not in "iu"):
            raise InputError(
                f"{self.path} has labels {labels.dtype} {labels.shape}: {count} integers are needed, one each"
            )
        super().__init__(self.path, labels.tolist() if labels is not None else [None] * count, None, shape)

    def _stored(self, indices: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
        with ZipFile(self.path) as archive, archive.open(f"{IMAGES}.npy") as member:
            (_, *row), by_columns, _ = _read_header(member)
            start, size = member.tell(), prod(row)
            if by_columns:  # the rows are scattered over the file
                member.seek(0)
                whole = npy.read_array(member)
            for index in indices:
                if not by_columns:
                    member.seek(start + index * size)
                pixels = whole[index] if by_columns else np.frombuffer(bytearray(member.read(size)), np.uint8)
                yield f"{self.path}, row {index}", torch.from_numpy(pixels.reshape(row)).permute(2, 0, 1)


class NpzWriter(Writer):
    """Writes all images into one NumPy file.

    ``arr_0`` holds the images, uint8 (N, H, W, C); ``arr_1`` their classes, int64 (N,), absent for an
    unconditional model; ``seeds`` their seeds, int64 (N,). Image i is row i. Gray images keep their one
    channel: an evaluator that wants three takes ``np.repeat(arr_0, 3, axis=-1)``.

    Until `finish`, each shard is a part file of its own in the hidden folder ``.parts``. `finish` copies one
    part after the other and never holds more than one. The bytes are those that ``numpy.savez`` writes from
    the whole arrays.
    """

    name, source = "npz", NpzSource

    def missing(self, shard: int) -> bool:
        return super().missing(shard) and not self._part(shard).exists()

    def location(self, index: int) -> str:
        return NAME

    def _write(self, shard: int, images: Tensor) -> None:
        if not self._whole.exists():
            with atomic_write(self._part(shard)) as file:
                self._pack(file, self.indices(shard), images)

    def _pack(self, file: IO[bytes], indices: Sequence[int], images: Tensor) -> None:
        columns = {
            IMAGES: images.permute(0, 2, 3, 1).contiguous().numpy(),
            LABELS: np.array([self.class_labels[i] if self.class_labels else 0 for i in indices], np.int64),
            SEEDS: np.array([self.seeds[i] for i in indices], np.int64),
        }
        _savez(file, {name: [columns[name]] for name in self._names()}, len(indices))

    def _join(self) -> None:
        if not self._whole.exists():
            with atomic_write(self._whole) as file:
                _savez(file, {name: self._pieces(name) for name in self._names()}, self.num_samples)
        for shard in range(self.shards):
            self._part(shard).unlink(missing_ok=True)
        with suppress(OSError):  # it is gone, or holds files of others
            self._parts.rmdir()

    def _pieces(self, name: str) -> Iterator[np.ndarray]:
        for shard in range(self.shards):
            with np.load(self._part(shard)) as part:
                yield part[name]

    def _names(self) -> list[str]:
        return [IMAGES, SEEDS] if self.class_labels is None else [IMAGES, LABELS, SEEDS]

    def _own(self) -> Iterable[Path]:
        return [self._whole, *map(self._part, range(self.shards))]

    def _subfolders(self) -> Sequence[Path]:
        return [self._parts]

    @property
    def _whole(self) -> Path:
        return self.folder / NAME

    @property
    def _parts(self) -> Path:
        return self.folder / PARTS

    def _part(self, shard: int) -> Path:
        return self._parts / f"part-{shard:06d}.npz"


def open_npz(path: Path, shape: Shape) -> NpzSource | None:
    """Return the images of an ``.npz`` file, or of the only one in a folder; None if that is not there."""
    files = [path] if path.is_file() else sorted(path.glob("*.npz"))
    return NpzSource(path, files, shape) if len(files) == 1 and files[0].suffix == ".npz" else None


def _savez(file: IO[bytes], arrays: Mapping[str, Iterable[np.ndarray]], rows: int) -> None:
    """Write arrays of `rows` rows, each given in pieces, as ``numpy.savez`` writes whole ones."""
    with ZipFile(file, "w") as archive:
        for name, pieces in arrays.items():
            # ZipFile dates a member that is opened by name 1980: the same bytes on every day
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                for number, piece in enumerate(pieces):
                    if number == 0:
                        shape = (rows, *piece.shape[1:])
                        header = {"descr": npy.dtype_to_descr(piece.dtype), "fortran_order": False}
                        npy.write_array_header_1_0(member, {**header, "shape": shape})
                    member.write(piece.data)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape of a stored array, whether its first index runs fastest, and its type."""
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] = HEADERS[npy.read_magic(file)](file)
    return header
