"""``sample_0000.png``, ``sample_0001.png``, ...: a PNG file each, which says what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from snowmelt.files import atomic_write
from snowmelt.formats.writer import Sample, Writer, png_sample, sample_name

__all__ = ["PngWriter"]


class PngWriter(Writer):
    """Writes each image as a PNG file of its own, all in one folder.

    Each file carries its index, seed, class (absent for an unconditional model) and the common metadata as
    text. Files that are there are left alone.
    """

    def missing(self, shard: int) -> bool:
        return not all(self._path(index).exists() for index in self.indices(shard))

    def location(self, index: int, class_label: int | None) -> str:
        return sample_name(index)

    def _write(self, shard: int, samples: Sequence[Sample]) -> None:
        for sample in samples:
            if not self._path(sample.index).exists():
                with atomic_write(self._path(sample.index)) as file:
                    file.write(self._png(sample))

    def _read(self, indices: Sequence[int]) -> Iterator[Sample]:
        for index in indices:
            yield png_sample(self._path(index).read_bytes())

    def _files(self) -> Iterator[Path]:
        return map(self._path, range(self.num_samples))

    def _path(self, index: int) -> Path:
        return self.folder / sample_name(index)
