"""``data-00000-of-00005.parquet``, ...: tables as Hugging Face's library datasets reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any, NamedTuple

from torch import Tensor

from snowmelt.errors import InputError, optional
from snowmelt.formats.file_source import EncodedSource, files_named, numbered, reading
from snowmelt.formats.writer import Writer, sample_name
from snowmelt.images import Shape

__all__ = ["ParquetSource", "ParquetWriter", "open_parquet"]


# Parts of a data set, by which Hugging Face calls the files: train-00000-of-00002.parquet
PARTED = re.compile(r"(train|validation|test)(-\d+-of-\d+)?")
TOGETHER = 64  # rows that are in memory at once


class _Columns(NamedTuple):
    """Which columns hold the images and their classes, and the names of these."""

    image: str
    label: str | None
    class_names: list[str] | None


class ParquetSource(EncodedSource):
    """Parquet files as Hugging Face's datasets writes them: ``image`` with ``bytes``, and ``label``.

    Labels are numbers, or names, which are numbered in natural order.
    Columns of other names are found if the schema says, in the words of datasets, that they are an image and
    a class. Files that are called after parts, as on the hub (``test-00000-of-00001.parquet``), are parts.
    """

    def __init__(self, path: Path, files: Sequence[Path], shape: Shape) -> None:
        self.tables: list[tuple[Path, int]] = []  # the table of each image, and its row there
        stated: list[Any] = []
        names: list[str] | None = None
        for table in files:
            with reading(table, "a Parquet file"), _open(table) as file:
                count = file.metadata.num_rows
                columns = _columns(table, file.schema_arrow)
                label = columns.label
                stated += [None] * count if label is None else file.read(columns=[label])[label].to_pylist()
            self.tables += [(table, row) for row in range(count)]
            if table != files[0] and columns.class_names != names:
                raise InputError(
                    f"{table} names its classes {columns.class_names}, but {files[0]} names them {names}: "
                    "label 0 must mean one class in all files of a folder"
                )
            names = columns.class_names
        places = [f"{table}, row {row}" for table, row in self.tables]
        labels, names = numbered(stated, names, places)
        found = {table: PARTED.fullmatch(table.stem) for table in files}
        parts = [match[1] if (match := found[table]) else None for table, _ in self.tables]
        super().__init__(path, files, labels, names, shape, parts if any(parts) else None)

    def _stored(self, rows: Sequence[int]) -> Iterator[tuple[str, bytes | Path]]:
        for table, places in groupby((self.tables[row] for row in rows), key=lambda place: place[0]):
            wanted = [row for _, row in places]
            for row, value in _images(table, wanted):
                name = f"{table}, row {row}"
                data = value.get("bytes") if isinstance(value, dict) else value
                path = value.get("path") if isinstance(value, dict) else None
                if data is None and path:
                    yield name, table.parent / path
                elif isinstance(data, bytes):
                    yield name, data
                else:
                    raise InputError(f"{name}: the image's column holds no bytes")

    def _item(self, row: int) -> str:
        table, own = self.tables[row]
        return f"{table.name}, row {own}"


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
    """Return the images in a Parquet file, or in those of a folder or its ``data``; None if there is none."""
    tables = files_named(path, ".parquet")
    if not tables and (path / "data").is_dir():  # as data sets lie on the hub
        tables = files_named(path / "data", ".parquet")
    return ParquetSource(path, tables, shape) if tables else None


def _open(table: Path) -> Any:
    return _parquet().ParquetFile(table, page_checksum_verification=True)


def _images(table: Path, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Yield some rows of a table and their images; groups of rows without any of them are not read."""
    with reading(table, "a Parquet file"), _open(table) as file:
        column = _columns(table, file.schema_arrow).image
        left = iter(wanted)
        row, start = next(left, None), 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            while row is not None and row < end:
                place = start
                for batch in file.iter_batches(TOGETHER, row_groups=[group], columns=[column]):
                    while row is not None and row < place + len(batch):
                        yield row, batch.column(column)[row - place].as_py()
                        row = next(left, None)
                    place += len(batch)
                    if row is None or row >= end:
                        break
            start = end


def _columns(table: Path, schema: Any) -> _Columns:
    """Return the columns of images and classes, by their names or by what datasets' metadata says of them."""
    stated = _features(schema.metadata)
    images = [name for name, feature in stated.items() if feature.get("_type") == "Image"]
    classes = [name for name, feature in stated.items() if feature.get("_type") == "ClassLabel"]
    image = images[0] if len(images) == 1 and "image" not in schema.names else "image"
    label = "label" if "label" in schema.names else classes[0] if len(classes) == 1 else None
    if image not in schema.names:
        raise InputError(f"{table} has the columns {', '.join(schema.names)}: it needs image, with its bytes")
    names = stated.get(label or "", {}).get("names")
    known = [str(name) for name in names] if isinstance(names, list) and names else None
    return _Columns(image, label if label in schema.names else None, known)


def _features(metadata: Mapping[bytes, bytes] | None) -> dict[str, dict[str, Any]]:
    """Return what datasets' metadata says of the columns; nothing if it says it in another form."""
    stated = (metadata or {}).get(b"huggingface")
    try:
        features = json.loads(stated)["info"]["features"] if stated else {}
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return {}


def _parquet(module: str = "pyarrow.parquet") -> Any:
    return optional(module, "the format parquet", "formats")
