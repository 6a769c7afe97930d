"""Images in files, which are decoded as they are read."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple, final

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from snowmelt.errors import InputError
from snowmelt.evaluation.shaping import Shape, shaped
from snowmelt.formats import GRID_NAME, LABELS_NAME
from snowmelt.formats.writer import require

__all__ = ["EncodedSource", "FolderSource", "ParquetSource", "TarSource", "holds_images"]

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
)
GRAY_MODES = frozenset({"1", "L", "LA"})


class EncodedSource(ABC):
    """Images as the bytes of image files.

    Args:
        path: where they are, for messages.
        labels: (N,) int64, or None.
        class_names: names of the classes 0, 1, ..., or None.
        shape: what is wanted.
    """

    def __init__(
        self, path: Path, labels: Sequence[int] | None, class_names: list[str] | None, shape: Shape
    ) -> None:
        self.name = str(path)
        self.labels = torch.tensor(labels, dtype=torch.int64) if labels is not None else None
        self.class_names = class_names
        self.shape = shape
        self._hash: str | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def _files(self) -> Iterator[tuple[str, bytes]]:
        """Yield each image's name and the bytes of its file, in order."""

    @final
    def content_hash(self) -> str:
        """Return the SHA-256 of the wanted shape and of the files' bytes, which are read once for it."""
        if self._hash is None:
            digest = hashlib.sha256(str(tuple(self.shape)).encode())
            for _, data in self._readable():
                digest.update(hashlib.sha256(data).digest())
            self._hash = digest.hexdigest()
        return self._hash

    @final
    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield all images in order, uint8 (B, C, H, W)."""
        for batch in _batched(self._images(), batch_size):
            yield torch.stack(batch)

    @final
    def take(self, indices: Sequence[int]) -> Tensor:
        """Return some images, uint8 (len(indices), C, H, W): the files are read up to the last of them."""
        wanted = set(indices)
        chosen = {i: image for i, image in zip(range(max(wanted) + 1), self._images()) if i in wanted}
        return torch.stack([chosen[index] for index in indices])

    def _images(self) -> Iterator[Tensor]:
        first: tuple[str, Tensor] | None = None
        for name, data in self._readable():
            image = shaped(_decoded(name, data), self.shape)
            if first is None:
                first = name, image
            if first[1].shape[0] == 3:
                image = shaped(image, Shape(channels=3))
            if image.shape != first[1].shape:
                raise InputError(_mismatch(name, image, *first))
            yield image

    def _readable(self) -> Iterator[tuple[str, bytes]]:
        try:
            yield from self._files()
        except OSError as error:
            raise InputError(f"the images in {self.name} cannot be read: {error}") from error


class FolderSource(EncodedSource):
    """A folder of class folders, or else of images, in the order of their names.

    Classes are numbered as torchvision's ``ImageFolder`` does. In a flat folder, the ``labels.csv`` that
    ``snowmelt generate`` writes says which files are images, their order and their classes.
    """

    def __init__(self, path: Path, shape: Shape) -> None:
        names, labels = None, None
        if folders := _class_folders(path):
            names = [folder.name for folder in folders]
            found = [(file, label) for label, folder in enumerate(folders) for file in _images_below(folder)]
            self.paths, labels = [file for file, _ in found], [label for _, label in found]
        elif (path / LABELS_NAME).exists():
            self.paths, labels = _labelled(path)
        else:
            self.paths = _images_in(path)
        super().__init__(path, labels, names, shape)

    def __len__(self) -> int:
        return len(self.paths)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        return ((str(path), path.read_bytes()) for path in self.paths)


class _Member(NamedTuple):
    """Where an image lies in a tar file."""

    tar: Path
    name: str
    offset: int
    size: int


class TarSource(EncodedSource):
    """Tar files as webdataset reads them: what has one name up to the first dot is one sample.

    ``.cls`` holds its class as a number.
    """

    def __init__(self, path: Path, tars: Sequence[Path], shape: Shape) -> None:
        members, labels = [], []
        for tar in tars:
            for image, label in _tar_samples(tar):
                members.append(image)
                labels.append(label)
        if not members:
            raise InputError(f"the tar files in {path} hold no images")
        self.members = members
        super().__init__(path, _all_or_none(path, labels), None, shape)

    def __len__(self) -> int:
        return len(self.members)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        for tar, members in groupby(self.members, key=lambda member: member.tar):
            with tar.open("rb") as file:
                for member in members:
                    file.seek(member.offset)
                    yield f"{tar}: {member.name}", file.read(member.size)


class ParquetSource(EncodedSource):
    """Parquet files as Hugging Face's datasets writes them: ``image`` with ``bytes``, and ``label``."""

    def __init__(self, path: Path, tables: Sequence[Path], shape: Shape) -> None:
        self.tables = list(tables)
        labels = [label for table in self.tables for label in _parquet_labels(table)]
        if not labels:
            raise InputError(f"the Parquet files in {path} hold no images")
        self.count = len(labels)
        super().__init__(path, _all_or_none(path, labels), _parquet_names(self.tables[0]), shape)

    def __len__(self) -> int:
        return self.count

    def _files(self) -> Iterator[tuple[str, bytes]]:
        parquet = require("pyarrow.parquet", "parquet")
        for table in self.tables:
            batches = parquet.ParquetFile(table).iter_batches(batch_size=64, columns=["image"])
            images = (image for batch in batches for image in batch.column("image").to_pylist())
            for row, image in enumerate(images):
                data = image.get("bytes") if isinstance(image, dict) else image
                if not isinstance(data, bytes):
                    raise InputError(f"{table}, row {row}: the column image holds no bytes")
                yield f"{table}, row {row}", data


def _batched(images: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    iterator = iter(images)
    while batch := list(islice(iterator, size)):
        yield batch


def holds_images(path: Path) -> bool:
    """Return whether a folder holds images, itself or in folders below it."""
    return bool(_images_in(path) or _class_folders(path))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _is_image(path) and path.name != GRID_NAME)


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_image(path))


def _class_folders(path: Path) -> list[Path]:
    """Return the class folders, empty ones too, which keep their number; none if all are empty."""
    folders = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    return folders if any(_images_below(folder) for folder in folders) else []


def _labelled(folder: Path) -> tuple[list[Path], list[int] | None]:
    table = folder / LABELS_NAME
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        paths = [folder / row["file"] for row in rows]
        labels = [int(row["class"]) if row["class"] else None for row in rows]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{table} cannot be read ({error!r}): it needs the columns file and class, or remove it"
        ) from error
    if missing := [path for path in paths if not path.exists()]:
        raise InputError(
            f"{table} lists {missing[0].name}, which is not there: generate it, or remove the list"
        )
    return paths, _all_or_none(table, labels)


def _tar_samples(tar: Path) -> Iterator[tuple[_Member, int | None]]:
    images: dict[str, _Member] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                folder, _, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                key = f"{folder}/{stem}"
                if f".{extension.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES and member.isfile():
                    images[key] = _Member(tar, member.name, member.offset_data, member.size)
                elif extension == "cls":
                    content = archive.extractfile(member)
                    labels[key] = int(content.read()) if content is not None else -1
    except (OSError, tarfile.TarError, ValueError) as error:
        raise InputError(f"{tar} cannot be read as a webdataset file: {error}") from error
    return ((image, labels.get(key)) for key, image in images.items())


def _all_or_none(path: Path, labels: Sequence[int | None]) -> list[int] | None:
    known = [label for label in labels if label is not None]
    if known and len(known) < len(labels):
        raise InputError(
            f"{path}: {len(known)} of {len(labels)} images have a class; give one to all or none"
        )
    return known or None


def _parquet_labels(table: Path) -> list[int | None]:
    """Return each row's label, or None for each where the file has none."""
    parquet = require("pyarrow.parquet", "parquet")
    try:
        columns = parquet.read_schema(table).names
        rows = parquet.read_metadata(table).num_rows
        labels: list[int | None] = [None] * rows
        if "label" in columns:
            labels = parquet.read_table(table, columns=["label"])["label"].to_pylist()
    except (OSError, ValueError) as error:
        raise InputError(f"{table} cannot be read as a Parquet file: {error}") from error
    if "image" not in columns:
        raise InputError(f"{table} has the columns {', '.join(columns)}: it needs image, with its bytes")
    return labels


def _parquet_names(table: Path) -> list[str] | None:
    """Return the class names that datasets' metadata states, if there are any."""
    stated = (require("pyarrow.parquet", "parquet").read_schema(table).metadata or {}).get(b"huggingface")
    try:
        names = json.loads(stated)["info"]["features"]["label"]["names"] if stated else None
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if names else None


def _decoded(name: str, data: bytes) -> Tensor:
    """Return a file's image as uint8 (C, H, W), in gray or colour as it is."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except Exception as error:  # a damaged file may raise anything, depending on its format
        raise InputError(f"{name} cannot be read as an image ({error}): repair or remove it") from error
    if picture.mode.startswith(("I", "F")):  # Pillow would cut them off at 255
        raise InputError(f"{name} has more than 8 bits a channel (mode {picture.mode}): convert it to 8 bits")
    image: Tensor = pil_to_tensor(picture.convert("L" if picture.mode in GRAY_MODES else "RGB"))
    return image


def _mismatch(name: str, image: Tensor, first_name: str, first: Tensor) -> str:
    if image.shape[0] != first.shape[0]:
        return f"{name} is in colour, but {first_name} is gray: give channels = 3 (or 1) to make all alike"
    sizes = [f"{each.shape[-1]}x{each.shape[-2]}" for each in (image, first)]
    return (
        f"{name} is {sizes[0]} pixels, but {first_name} is {sizes[1]}: give image_size to resize all to one"
    )
