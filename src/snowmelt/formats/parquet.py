"""``data-00000-of-00005.parquet``, ...: tables as Hugging Face's library datasets reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from snowmelt.files import atomic_write
from snowmelt.formats.writer import Sample, Writer, png_sample, require, sample_name

__all__ = ["ParquetWriter"]


class ParquetWriter(Writer):
    """Writes a Parquet file a shard, by pyarrow.

    Columns: ``image`` (``bytes``, a PNG file, and ``path``, its name), ``label`` (int64; absent for an
    unconditional model), ``seed`` and ``index`` (int64). The schema says in datasets' own words that these
    are images and named classes, so ``load_dataset("parquet", data_files="FOLDER/*.parquet")`` decodes them;
    under the key ``snowmelt`` it holds the common metadata.
    """

    def missing(self, shard: int) -> bool:
        return not self._path(shard).exists()

    def location(self, index: int, class_label: int | None) -> str:
        return self._name(index // self.shard_size)

    def _prepare(self) -> None:
        require("pyarrow.parquet", "parquet")

    def _write(self, shard: int, samples: Sequence[Sample]) -> None:
        arrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
        table = arrow.Table.from_pylist(
            [_row(sample, self._png(sample)) for sample in samples], self._schema()
        )
        with atomic_write(self._path(shard)) as file:
            parquet.write_table(table, file, compression="none")  # PNG files are compressed already

    def _read(self, indices: Sequence[int]) -> Iterator[Sample]:
        parquet = require("pyarrow.parquet", "parquet")
        for shard, inside in self._by_shard(indices):
            images = parquet.read_table(self._path(shard), columns=["image"])["image"]
            for index in inside:
                yield png_sample(images[index - self.indices(shard).start]["bytes"].as_py())

    def _files(self) -> Iterator[Path]:
        return map(self._path, range(self.shards))

    def _schema(self) -> Any:
        arrow = require("pyarrow", "parquet")
        columns = {
            "image": arrow.struct({"bytes": arrow.binary(), "path": arrow.string()}),
            "label": arrow.int64(),
            "seed": arrow.int64(),
            "index": arrow.int64(),
        }
        features: dict[str, Any] = {
            "image": {"_type": "Image"},
            "label": {"_type": "ClassLabel", "names": self.class_names},
            "seed": {"_type": "Value", "dtype": "int64"},
            "index": {"_type": "Value", "dtype": "int64"},
        }
        if self.class_names is None:
            del columns["label"], features["label"]
        described = {
            "huggingface": json.dumps({"info": {"features": features}}),
            "snowmelt": json.dumps(self.metadata, sort_keys=True),
        }
        return arrow.schema(columns, metadata=described)

    def _name(self, shard: int) -> str:
        return f"data-{shard:05d}-of-{self.shards:05d}.parquet"

    def _path(self, shard: int) -> Path:
        return self.folder / self._name(shard)


def _row(sample: Sample, png: bytes) -> dict[str, Any]:
    row = {
        "image": {"bytes": png, "path": sample_name(sample.index)},
        "label": sample.class_label,
        "seed": sample.seed,
        "index": sample.index,
    }
    if sample.class_label is None:
        del row["label"]
    return row
