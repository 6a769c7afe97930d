"""Which files of a folder are images, and which folders are classes.

Hidden files and folders do not count, nor those that systems leave behind. A link to a folder is followed
once, and never if it leads back into the data.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from snowmelt.errors import InputError
from snowmelt.images.reading import is_image
from snowmelt.text import counted

__all__ = ["OVERVIEW", "ClassFolders", "class_folders", "image_files", "natural_key", "subfolders"]

# What is left out, one and several of it
BESIDE = ("image beside the class folders", "images beside the class folders")
LINK_BACK = ("link that leads back into the data", "links that lead back into the data")
LINK_TO_NOTHING = ("link that leads nowhere", "links that lead nowhere")
OTHER_FORMAT = ("picture in a format that is not read", "pictures in formats that are not read")
OVERVIEW = "generated_samples.png"  # a picture of generated images, which lies beside them
# Left behind by macOS, Windows, file servers and Python
SYSTEM_FOLDERS = frozenset(
    {
        "__macosx", "__pycache__", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin",
        "lost+found", "system volume information",
    }
)  # fmt: skip
# Pictures that Pillow cannot read, or not as an image
UNREAD = frozenset(
    {
        ".arw", ".cr2", ".dcm", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif", ".ico", ".jxl", ".nef",
        ".psd", ".svg",
    }
)  # fmt: skip


class ClassFolders(NamedTuple):
    """The images of a folder that holds one folder for each class.

    Attributes:
        names: of the classes 0, 1, ..., in natural order; empty if there are no class folders.
        files: the images, class by class.
        labels: the class of each image.
    """

    names: list[str]
    files: list[Path]
    labels: list[int]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return the sorting key by which 2 comes before 10.

    >>> sorted(["10", "9", "b2", "b10", "B"], key=natural_key)
    ['9', '10', 'B', 'b2', 'b10']
    """
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def class_folders(folder: Path) -> ClassFolders:
    """Return the images of a folder that holds one folder for each class.

    Images count however deep they lie. A class folder without images keeps its number. Warns once about what
    is left out: pictures of other formats or beside the class folders, and links that lead nowhere or back.

    Raises:
        InputError: the folder is missing or cannot be read.
    """
    walk = _Walk(folder)
    names: list[str] = []
    files: list[Path] = []
    labels: list[int] = []
    for each in walk.folders():
        found = list(walk.below(each))
        labels += [len(names)] * len(found)
        names.append(each.name)
        files += found
    if files and (beside := [path for path in walk.files(folder) if path.name != OVERVIEW]):
        walk.left_out[BESIDE] = beside
    walk.warn()
    return ClassFolders(names, files, labels)


def image_files(folder: Path, *, deep: bool = False) -> list[Path]:
    """Return the image files in a folder, in natural order, without the overview of generated images.

    Args:
        folder: where they lie.
        deep: those in the folders below it as well.

    Raises:
        InputError: the folder is missing or cannot be read.
    """
    walk = _Walk(folder)
    found = [path for path in (walk.below(folder) if deep else walk.files(folder)) if path.name != OVERVIEW]
    walk.warn()
    return found


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that may hold images, in natural order."""
    return list(_Walk(folder).folders())


@dataclass
class _Walk:
    """A walk through the folders of one data set, which notes what it leaves out."""

    root: Path
    left_out: dict[tuple[str, str], list[Path]] = field(default_factory=dict)

    def folders(self) -> Iterator[Path]:
        """Yield the folders in the root."""
        seen: set[Path] = set()
        return (Path(entry) for entry in self._entries(self.root) if self._is_folder(entry, seen))

    def files(self, folder: Path) -> Iterator[Path]:
        """Yield the images in a folder."""
        return (Path(entry) for entry in self._entries(folder) if self._is_image(entry))

    def below(self, folder: Path, seen: set[Path] | None = None) -> Iterator[Path]:
        """Yield the images in a folder and in all folders below it; `seen` are the targets of links."""
        seen = set() if seen is None else seen
        for entry in self._entries(folder):
            if self._is_folder(entry, seen):
                yield from self.below(Path(entry), seen)
            elif self._is_image(entry):
                yield Path(entry)

    def warn(self) -> None:
        """Say what was left out."""
        if self.left_out:
            texts = [
                f"{counted(len(paths), *what)} ({self._named(paths)})"
                for what, paths in self.left_out.items()
            ]
            warnings.warn(f"{self.root}: left out {', and '.join(texts)}", stacklevel=4)

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: natural_key(entry.name))
        except OSError as error:
            raise InputError(f"{folder} cannot be read as a folder: {error.strerror}") from error

    def _is_folder(self, entry: os.DirEntry[str], seen: set[Path]) -> bool:
        if _skipped(entry.name) or not entry.is_dir():
            return False
        if entry.is_symlink():
            target = Path(entry).resolve()
            if target in seen or self._holds(target):
                self._leave_out(LINK_BACK, Path(entry))
                return False
            seen.add(target)
        return True

    def _is_image(self, entry: os.DirEntry[str]) -> bool:
        path = Path(entry)
        if is_image(path):
            if entry.is_file():
                return True
            if entry.is_symlink() and not path.exists():
                self._leave_out(LINK_TO_NOTHING, path)
        elif path.suffix.lower() in UNREAD and not entry.name.startswith("."):
            self._leave_out(OTHER_FORMAT, path)
        return False

    def _holds(self, target: Path) -> bool:
        """Return whether a folder's images are met without its link: inside the root, or around it."""
        root = self.root.resolve()
        if target == root or target in root.parents:
            return True
        return root in target.parents and not any(map(_skipped, target.relative_to(root).parts))

    def _leave_out(self, what: tuple[str, str], path: Path) -> None:
        self.left_out.setdefault(what, []).append(path)

    def _named(self, paths: list[Path]) -> str:
        names = [str(path.relative_to(self.root)) for path in paths[:3]]
        return ", ".join(names + ["..."] * (len(paths) > len(names)))


def _skipped(name: str) -> bool:
    """Return whether a folder is hidden, or one that a system has left behind."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS
