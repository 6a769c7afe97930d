"""``FOLDER/<class name>/sample_0000.png``: what torchvision's ``ImageFolder`` reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.formats.writer import Sample, Writer, png_sample, sample_name

__all__ = ["ClassFolderWriter"]

UNCONDITIONAL = "images"
SAMPLE = re.compile(r"sample_(\d{4,})\.png")
# Not a path, not hidden, and a name on every file system
UNSAFE = re.compile(r'^$|^[.\s]|[.\s]$|[/\\<>:"|?*\x00-\x1f\x7f]')
LONGEST_NAME = 255  # bytes


class ClassFolderWriter(Writer):
    """Writes each image as a PNG file, in a folder of its class.

    The folders are named after the classes; an unconditional model has one, ``images``. `finish` makes a
    folder for every class, so that ``ImageFolder`` counts the classes as the model does. It refuses classes
    without images unless it is told ``allow_empty=True``; left out, they would shift the numbers of the
    others without a word. ``ImageFolder`` numbers by the alphabet: names of your own keep their numbers if
    they are in that order, as zero-padded numbers are.
    """

    def missing(self, shard: int) -> bool:
        found = dict(self._found())
        return not all(index in found for index in self.indices(shard))

    def location(self, index: int, class_label: int | None) -> str:
        return f"{self._folder_name(class_label)}/{sample_name(index)}"

    def _prepare(self) -> None:
        names = self.class_names or ()
        for name in names:
            if UNSAFE.search(name) or len(name.encode()) > LONGEST_NAME:
                raise InputError(
                    f"{name!r} cannot be a folder of images: a class name for class_folders is plain text "
                    'without / \\ < > : " | ? *, with no dot or space at its ends'
                )
        if len({name.casefold() for name in names}) < len(names):
            raise InputError(
                "class names for class_folders must differ in more than upper and lower case, "
                f"got {list(names)}"
            )

    def _write(self, shard: int, samples: Sequence[Sample]) -> None:
        for sample in samples:
            path = self.folder / self.location(sample.index, sample.class_label)
            if not path.exists():
                with atomic_write(path) as file:
                    file.write(self._png(sample))

    def _join(self) -> None:
        for folder in self._subfolders():
            folder.mkdir(exist_ok=True)

    def _read(self, indices: Sequence[int]) -> Iterator[Sample]:
        found = dict(self._found())
        for index in indices:
            if index not in found:
                raise FileNotFoundError(f"no class has a file {sample_name(index)}")
            yield png_sample(found[index].read_bytes())

    def _files(self) -> Iterator[Path]:
        for _, path in self._found():
            yield path

    def _found(self) -> Iterator[tuple[int, Path]]:
        """Yield the images that are there: the class of one is known only by looking."""
        for folder in self._subfolders():
            if folder.is_dir():
                for path in folder.iterdir():
                    match = SAMPLE.fullmatch(path.name)
                    if match and int(match[1]) < self.num_samples and path.name == sample_name(int(match[1])):
                        yield int(match[1]), path

    def _subfolders(self) -> Sequence[Path]:
        return [self.folder / name for name in self.class_names or (UNCONDITIONAL,)]

    def _folder_name(self, class_label: int | None) -> str:
        return (
            UNCONDITIONAL
            if self.class_names is None or class_label is None
            else self.class_names[class_label]
        )
