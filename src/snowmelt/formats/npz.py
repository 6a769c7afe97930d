"""One ``samples.npz``, as evaluators of FID take it: the layout of guided-diffusion's reference batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
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
from snowmelt.formats.file_source import FileSource, Stored, class_label, files_named, reading
from snowmelt.formats.writer import Writer
from snowmelt.images import CHANNELS, Shape, resize
from snowmelt.text import counted

__all__ = ["NpzSource", "NpzWriter", "open_npz"]

NAME = "samples.npz"
PARTS = ".parts"
IMAGES, LABELS, SEEDS = "arr_0", "arr_1", "seeds"


class NpzSource(FileSource):
    """The rows of ``arr_0`` in an ``.npz`` file, uint8 (N, H, W, C), with integer labels beside it, if any.

    No more than one batch of them is in memory.
    """

    def __init__(self, path: Path, files: Sequence[Path], shape: Shape) -> None:
        (self.path,) = files
        with reading(self.path, f"images (an npz file with {IMAGES}, uint8 (N, H, W, C), is needed)"):
            with ZipFile(self.path) as archive, archive.open(f"{IMAGES}.npy") as member:
                stored, self.by_columns, dtype = _header(member)
                self.start = member.tell()
                # Reading to the end verifies the checksum, which reading row by row never looks at
                size = sum(map(len, iter(lambda: member.read(1 << 14), b"")))
            with np.load(self.path, allow_pickle=False) as file:
                labels = next((file[name] for name in (LABELS, "labels") if name in file), None)
        if dtype != np.uint8 or len(stored) != 4 or stored[-1] not in CHANNELS or 0 in stored[1:]:
            raise InputError(
                f"{self.path} has {IMAGES} {dtype} {stored}: uint8 (N, H, W, 1, 3 or 4) is needed"
            )
        if size != prod(stored):
            raise InputError(f"{self.path} states {prod(stored)} bytes of {IMAGES}, but has {size}")
        count, *self.row = stored
        if labels is not None and labels.shape != (count,):
            raise InputError(
                f"{self.path} has labels {labels.dtype} {labels.shape}: {counted(count, 'integer')} must "
                "be there, one an image"
            )
        rows: list[Any] = [None] * count if labels is None else labels.tolist()
        numbers = [class_label(label, f"{self.path}, row {row}") for row, label in enumerate(rows)]
        super().__init__(self.path, files, numbers, None, shape)

    def _stored(self, rows: Sequence[int]) -> Iterator[Stored]:
        size = prod(self.row)
        with ZipFile(self.path) as archive, archive.open(f"{IMAGES}.npy") as member:
            whole = npy.read_array(member) if self.by_columns else None  # else an image is not in one piece
            for row in rows:
                if whole is None:
                    member.seek(self.start + row * size)
                    pixels = np.frombuffer(bytearray(member.read(size)), np.uint8).reshape(self.row)
                else:
                    pixels = whole[row]
                yield f"{self.path}, row {row}", torch.from_numpy(pixels).permute(2, 0, 1)

    def _decoded(self, name: str, stored: Tensor) -> Tensor:
        # As of files, alpha is kept only where it is asked for
        return resize(stored, Shape(None, self.shape.channels or min(3, len(stored)), self.shape.background))

    def digests(self) -> list[str]:
        """Return the SHA-256 of each image as it is stored."""
        return [sha256(one.contiguous().numpy().data).hexdigest() for _, one in self._stored(self.rows)]

    def _item(self, row: int) -> str:
        return f"row {row}"


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

    def location(self, index: int) -> str:
        return NAME

    def _place(self, index: int) -> Path:
        return whole if (whole := self.folder / NAME).exists() else self._part(index // self.shard_size)

    def _pack(self, file: IO[bytes], indices: Sequence[int], images: Tensor) -> None:
        np.save(file, images.permute(0, 2, 3, 1).contiguous().numpy())

    def _join(self) -> None:
        parts = [self._part(shard) for shard in range(self.shards)]
        if not (self.folder / NAME).exists():
            columns: dict[str, Iterable[np.ndarray]] = {IMAGES: map(np.load, parts)}
            if self.class_labels is not None:
                columns[LABELS] = [np.array(self.class_labels, np.int64)]
            columns[SEEDS] = [np.array(self.seeds, np.int64)]
            with atomic_write(self.folder / NAME) as file:
                _savez(file, columns, self.num_samples)
        for part in parts:
            part.unlink(missing_ok=True)
        with suppress(OSError):  # it is gone, or holds files of others
            (self.folder / PARTS).rmdir()

    def _own(self) -> Iterable[Path]:
        return [self.folder / NAME, *(self.folder / PARTS).glob("part-*"), self.folder / PARTS]

    def _part(self, shard: int) -> Path:
        return self.folder / PARTS / f"part-{shard:06d}.npy"


def open_npz(path: Path, shape: Shape) -> NpzSource | None:
    """Return the images of an ``.npz`` file, or of the only one in a folder; None if there is none."""
    files = files_named(path, ".npz")
    if len(files) > 1:
        raise InputError(f"{path} holds {len(files)} npz files: give one of them, such as {files[0]}")
    return NpzSource(path, files, shape) if files else None


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape of an array in a file, whether it is stored column by column, and its dtype."""
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read(member)
    return shape, by_columns, dtype


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
