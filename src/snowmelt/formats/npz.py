"""One ``samples.npz``, as evaluators of FID take it: the layout of guided-diffusion's reference batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
import torch
from numpy.lib import format as npy

from snowmelt.files import atomic_write
from snowmelt.formats.writer import Sample, Writer

__all__ = ["NpzWriter"]

NAME = "samples.npz"
PARTS = ".parts"
IMAGES, LABELS, SEEDS = "arr_0", "arr_1", "seeds"


class NpzWriter(Writer):
    """Writes all images into one NumPy file.

    ``arr_0`` holds the images, uint8 (N, H, W, C); ``arr_1`` their classes, int64 (N,), absent for an
    unconditional model; ``seeds`` their seeds, int64 (N,). Image i is row i. Gray images keep their one
    channel: an evaluator that wants three takes ``np.repeat(arr_0, 3, axis=-1)``.

    Until `finish`, each shard is a part file of its own in the hidden folder ``.parts``. `finish` copies one
    part after the other and never holds more than one. The bytes are those that ``numpy.savez`` writes from
    the whole arrays.
    """

    def missing(self, shard: int) -> bool:
        return not (self._path.exists() or self._part(shard).exists())

    def location(self, index: int, class_label: int | None) -> str:
        return NAME

    def _write(self, shard: int, samples: Sequence[Sample]) -> None:
        if not self._path.exists():
            arrays = {name: [array] for name, array in _arrays(samples).items()}
            with atomic_write(self._part(shard)) as file:
                _pack(file, arrays, len(samples))

    def _join(self) -> None:
        if not self._path.exists():
            arrays = {name: self._pieces(name) for name in self._names()}
            with atomic_write(self._path) as file:
                _pack(file, arrays, self.num_samples)
        for shard in range(self.shards):
            self._part(shard).unlink(missing_ok=True)
        with suppress(OSError):  # it is gone, or holds what is not ours
            self._parts.rmdir()

    def _pieces(self, name: str) -> Iterator[np.ndarray]:
        for shard in range(self.shards):
            with np.load(self._part(shard)) as part:
                yield part[name]

    def _read(self, indices: Sequence[int]) -> Iterator[Sample]:
        with ExitStack() as stack:
            archive = stack.enter_context(ZipFile(self._path))
            rows = [
                _rows(stack.enter_context(archive.open(f"{name}.npy")), indices) for name in self._names()
            ]
            for index, row in zip(indices, zip(*rows, strict=True), strict=True):
                values = dict(zip(self._names(), row, strict=True))
                image = torch.from_numpy(values[IMAGES]).permute(2, 0, 1).contiguous()
                label = int(values[LABELS]) if LABELS in values else None
                yield Sample(index, image, label, int(values[SEEDS]))

    def _files(self) -> Iterator[Path]:
        yield self._path
        yield from map(self._part, range(self.shards))

    def _subfolders(self) -> Sequence[Path]:
        return [self._parts]

    def _names(self) -> list[str]:
        return [IMAGES, SEEDS] if self.num_classes is None else [IMAGES, LABELS, SEEDS]

    @property
    def _path(self) -> Path:
        return self.folder / NAME

    @property
    def _parts(self) -> Path:
        return self.folder / PARTS

    def _part(self, shard: int) -> Path:
        return self._parts / f"part-{shard:06d}.npz"


def _arrays(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    labels = [sample.class_label for sample in samples]
    return {
        IMAGES: torch.stack([sample.image for sample in samples]).permute(0, 2, 3, 1).contiguous().numpy(),
        **({} if None in labels else {LABELS: np.array(labels, dtype=np.int64)}),
        SEEDS: np.array([sample.seed for sample in samples], dtype=np.int64),
    }


def _pack(file: IO[bytes], arrays: Mapping[str, Iterable[np.ndarray]], rows: int) -> None:
    """Write arrays of `rows` rows, each given in pieces, as ``numpy.savez`` writes whole ones."""
    with ZipFile(file, "w") as archive:
        for name, pieces in arrays.items():
            # ZipFile dates a member that is opened by name 1980: the same bytes on every day
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                for number, piece in enumerate(pieces):
                    if number == 0:
                        npy.write_array_header_1_0(member, _header(piece, rows))
                    member.write(piece.data)


def _header(piece: np.ndarray, rows: int) -> dict[str, Any]:
    shape = (rows, *piece.shape[1:])
    return {"descr": npy.dtype_to_descr(piece.dtype), "fortran_order": False, "shape": shape}


def _rows(file: IO[bytes], indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield rows of a stored array; the file is read through once, as the indices ascend."""
    npy.read_magic(file)
    shape, _, dtype = npy.read_array_header_1_0(file)
    start, size = file.tell(), dtype.itemsize * int(np.prod(shape[1:]))
    for index in indices:
        file.seek(start + index * size)
        yield np.frombuffer(bytearray(file.read(size)), dtype).reshape(shape[1:])
