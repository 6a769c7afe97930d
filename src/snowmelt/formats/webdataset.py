"""``shard-000000.tar``, ...: tar files as the library webdataset streams them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from snowmelt.files import atomic_write
from snowmelt.formats.writer import Sample, Writer, png_sample, require

__all__ = ["WebDatasetWriter"]


class WebDatasetWriter(Writer):
    """Writes a tar file a shard, by webdataset's ``TarWriter``.

    Image i is three entries named after its index in nine digits: ``.png``, ``.cls`` (its class as a number;
    absent for an unconditional model) and ``.json`` (index, seed, class and the common metadata). Owners and
    times are constants, so that the bytes are always the same.
    """

    def missing(self, shard: int) -> bool:
        return not self._path(shard).exists()

    def location(self, index: int, class_label: int | None) -> str:
        return _name(index // self.shard_size)

    def _prepare(self) -> None:
        require("webdataset", "webdataset")

    def _write(self, shard: int, samples: Sequence[Sample]) -> None:
        constants = {"user": "snowmelt", "group": "snowmelt", "mtime": 0.0}
        tar_writer = require("webdataset", "webdataset").TarWriter
        with atomic_write(self._path(shard)) as file, tar_writer(file, encoder=False, **constants) as tar:
            for sample in samples:
                tar.write(self._entries(sample))

    def _entries(self, sample: Sample) -> dict[str, str | bytes]:
        facts = {**self.metadata, "index": sample.index, "seed": sample.seed}
        entries: dict[str, str | bytes] = {"__key__": _key(sample.index), "png": self._png(sample)}
        if sample.class_label is not None:
            facts["class"] = sample.class_label
            entries["cls"] = str(sample.class_label).encode()
        return {**entries, "json": json.dumps(facts, sort_keys=True).encode()}

    def _read(self, indices: Sequence[int]) -> Iterator[Sample]:
        for shard, inside in self._by_shard(indices):
            with tarfile.open(self._path(shard), "r:") as tar:
                for index in inside:
                    member = tar.extractfile(f"{_key(index)}.png")
                    if member is None:
                        raise OSError(f"{_name(shard)} holds no file {_key(index)}.png")
                    yield png_sample(member.read())

    def _files(self) -> Iterator[Path]:
        return map(self._path, range(self.shards))

    def _path(self, shard: int) -> Path:
        return self.folder / _name(shard)


def _name(shard: int) -> str:
    return f"shard-{shard:06d}.tar"


def _key(index: int) -> str:
    return f"{index:09d}"
