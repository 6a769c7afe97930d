"""``data-00000-of-00005.parquet``, ...: tables as Hugging Face's library datasets reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from snowmelt.errors import InputError, optional
from snowmelt.formats.source import EncodedSource, class_label, files_named, reading
from snowmelt.formats.writer import Writer, sample_name
from snowmelt.images import Shape

__all__ = ["ParquetSource", "ParquetWriter", "open_parquet"]


class ParquetSource(EncodedSource):
    """Parquet files as Hugging Face's datasets writes them: ``image`` with ``bytes``, and ``label``."""

    def __init__(self, path: Path, files: Sequence[Path], shape: Shape) -> None:
        self.rows: list[tuple[Path, int]] = []
        labels: list[int | None] = []
        names: list[str] | None = None
        for table in files:
            with reading(table, "a Parquet file"), _open(table) as file:
                schema, count = file.schema_arrow, file.metadata.num_rows
                columns = schema.names
                stated = file.read(columns=["label"])["label"].to_pylist() if "label" in columns else None
            if "image" not in columns:
                raise InputError(
                    f"{table} has the columns {', '.join(columns)}: it needs image, with its bytes"
                )
            self.rows += [(table, row) for row in range(count)]
            values = enumerate([None] * count if stated is None else stated)
            labels += [class_label(value, f"{table}, row {row}") for row, value in values]
            own = _class_names(schema.metadata)
            if table != files[0] and own != names:
                raise InputError(
                    f"{table} names its classes {own}, but {files[0]} names them {names}: label 0 must mean "
                    "one class in all files of a folder"
                )
            names = own
        super().__init__(path, labels, names, shape)

    def _files(self, indices: Sequence[int]) -> Iterator[tuple[str, bytes]]:
        for table, places in groupby((self.rows[index] for index in indices), key=lambda place: place[0]):
            wanted = {row for _, row in places}
            with reading(table, "a Parquet file"), _open(table) as file:
                images = file.iter_batches(batch_size=64, columns=["image"])
                stored = (image for batch in images for image in batch.column("image"))
                for row, image in enumerate(stored):
                    if row in wanted:
                        value = image.as_py()
                        data = value.get("bytes") if isinstance(value, dict) else value
                        if not isinstance(data, bytes):
                            raise InputError(f"{table}, row {row}: the column image holds no bytes")
                        yield f"{table}, row {row}", data


class ParquetWriter(Writer):
    """Writes a Parquet file a shard, by pyarrow.

    Columns: ``image`` (``bytes``, a PNG file, and ``path``, its name), ``label`` (int64; absent for an
    unconditional model), ``seed`` and ``index`` (int64). The schema says in datasets' own words that these
    are images and named classes, so ``load_dataset("parquet", data_files="FOLDER/*.parquet")`` decodes them;
    under the key ``snowmelt`` it holds the common metadata.
    """

    name, source = "parquet", ParquetSource

    def __post_init__(self) -> None:
        super().__post_init__()
        _parquet()

    def location(self, index: int) -> str:
        return f"data-{index // self.shard_size:05d}-of-{self.shards:05d}.parquet"

    def _pack(self, file: IO[bytes], indices: Sequence[int], images: Tensor) -> None:
        rows = [
            {
                "image": {"bytes": self._png(index, image), "path": sample_name(index)},
                "label": self.class_labels[index] if self.class_labels is not None else None,
                "seed": self.seeds[index],
                "index": index,
            }
            for index, image in zip(indices, images, strict=True)
        ]
        table = _parquet("pyarrow").Table.from_pylist(rows, self._schema())
        # PNG files are compressed already
        _parquet().write_table(table, file, compression="none", write_page_checksum=True)

    def _schema(self) -> Any:
        arrow = _parquet("pyarrow")
        # Each column's type, for pyarrow and for datasets
        columns = {
            "image": (arrow.struct({"bytes": arrow.binary(), "path": arrow.string()}), {"_type": "Image"}),
            "label": (arrow.int64(), {"_type": "ClassLabel", "names": self.class_names}),
            "seed": (arrow.int64(), {"_type": "Value", "dtype": "int64"}),
            "index": (arrow.int64(), {"_type": "Value", "dtype": "int64"}),
        }
        if self.class_names is None:
            del columns["label"]
        features = {name: feature for name, (_, feature) in columns.items()}
        described = {
            "huggingface": json.dumps({"info": {"features": features}}),
            "snowmelt": json.dumps(self.metadata, sort_keys=True),
        }
        return arrow.schema({name: kind for name, (kind, _) in columns.items()}, metadata=described)


def open_parquet(path: Path, shape: Shape) -> ParquetSource | None:
    """Return the images in a Parquet file, or in those of a folder; None if there is none."""
    tables = files_named(path, ".parquet")
    return ParquetSource(path, tables, shape) if tables else None


def _open(table: Path) -> Any:
    return _parquet().ParquetFile(table, page_checksum_verification=True)


def _class_names(metadata: Mapping[bytes, bytes] | None) -> list[str] | None:
    """Return the class names that datasets' metadata states, if there are any."""
    stated = (metadata or {}).get(b"huggingface")
    try:
        names = json.loads(stated)["info"]["features"]["label"]["names"] if stated else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _parquet(module: str = "pyarrow.parquet") -> Any:
    return optional(module, "the format parquet", "formats")
