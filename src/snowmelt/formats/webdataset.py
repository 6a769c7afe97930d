"""``shard-000000.tar``, ...: tar files as the library webdataset streams them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any, NamedTuple

from torch import Tensor

from snowmelt.errors import InputError, optional
from snowmelt.formats.file_source import EncodedSource, class_label, files_named, reading
from snowmelt.formats.writer import Writer
from snowmelt.images import IMAGE_SUFFIXES, Shape
from snowmelt.text import counted

__all__ = ["TarSource", "WebDatasetWriter", "open_webdataset"]

CONSTANTS = {"user": "snowmelt", "group": "snowmelt", "mtime": 0.0}  # so that the bytes are always the same


class _Member(NamedTuple):
    """Where an image lies in a tar file."""

    tar: Path
    name: str
    offset: int
    size: int


class TarSource(EncodedSource):
    """Tar files as webdataset reads them: files whose names agree up to the first dot are one sample.

    ``.cls`` holds its class as a number. Each sample has one picture.
    """

    def __init__(self, path: Path, files: Sequence[Path], shape: Shape) -> None:
        samples = [sample for tar in files for sample in _samples(tar)]
        self.members = [member for member, _ in samples]
        super().__init__(path, files, [label for _, label in samples], None, shape)

    def _stored(self, rows: Sequence[int]) -> Iterator[tuple[str, bytes]]:
        members = (self.members[row] for row in rows)
        for tar, inside in groupby(members, key=lambda member: member.tar):
            with tar.open("rb") as file:
                for member in inside:
                    file.seek(member.offset)
                    yield f"{tar}: {member.name}", file.read(member.size)

    def _item(self, row: int) -> str:
        return f"{self.members[row].tar.name}: {self.members[row].name}"


class WebDatasetWriter(Writer):
    """Writes a tar file a shard, by webdataset's ``TarWriter``.

    Image i is three entries named after its index in nine digits: ``.png``, ``.cls`` (its class as a number;
    absent for an unconditional model) and ``.json`` (index, seed, class and the common metadata).
    """

    name, source = "webdataset", TarSource

    def __post_init__(self) -> None:
        super().__post_init__()
        _webdataset()

    def location(self, index: int) -> str:
        return f"shard-{index // self.shard_size:06d}.tar"

    def _pack(self, file: IO[bytes], indices: Sequence[int], images: Tensor) -> None:
        with _webdataset().TarWriter(file, encoder=False, **CONSTANTS) as tar:
            for index, image in zip(indices, images, strict=True):
                facts = {**self.metadata, "index": index, "seed": self.seeds[index]}
                entries = {"__key__": f"{index:09d}", "png": self._png(index, image)}
                if self.class_labels is not None:
                    facts["class"] = self.class_labels[index]
                    entries["cls"] = str(facts["class"]).encode()
                tar.write({**entries, "json": json.dumps(facts, sort_keys=True).encode()})


def open_webdataset(path: Path, shape: Shape) -> TarSource | None:
    """Return the images in a tar file, or in those of a folder; None if there is none."""
    tars = files_named(path, ".tar")
    return TarSource(path, tars, shape) if tars else None


def _samples(tar: Path) -> Iterator[tuple[_Member, int | None]]:
    images: dict[str, _Member] = {}
    labels: dict[str, int | None] = {}
    with reading(tar, "a webdataset file"), tarfile.open(tar, "r:") as archive:
        for member in archive:
            folder, _, base = member.name.rpartition("/")
            stem, _, extension = base.partition(".")
            key = f"{folder}/{stem}"
            if not stem or not member.isfile():
                continue  # systems leave hidden files
            if Path(base).suffix.lower() in IMAGE_SUFFIXES:
                if key in images:
                    raise InputError(
                        f"{tar}: {images[key].name} and {member.name} are pictures of one sample, and "
                        "nothing says which one is the image: leave one in the file"
                    )
                images[key] = _Member(tar, member.name, member.offset_data, member.size)
            elif extension.lower() == "cls" and (content := archive.extractfile(member)) is not None:
                labels[key] = _class_of(content.read(100), f"{tar}: {member.name}")
        _check_end(archive)
    return ((image, labels.get(key)) for key, image in images.items())


def _class_of(content: bytes, place: str) -> int | None:
    text = content.decode("utf-8", "replace").strip()
    return class_label(int(text) if text.isascii() and text.isdecimal() else text, place)


def _check_end(archive: tarfile.TarFile) -> None:
    """Refuse half a file: tarfile takes anything that is no entry for the end, which is zeros alone."""
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    end = file.read(tarfile.BLOCKSIZE)
    rest = iter(lambda: file.read(tarfile.RECORDSIZE), b"")
    if not archive.getmembers() or not end or any(end) or any(map(any, rest)):
        raise EOFError(
            f"it is damaged or cut off after {counted(len(archive.getmembers()), 'entry')}: copy it again"
        )


def _webdataset() -> Any:
    return optional("webdataset", "the format webdataset", "formats")
