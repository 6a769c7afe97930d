"""``FOLDER/<class name>/sample_0000.png``: a folder for each class, for torchvision's ``ImageFolder``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.formats.png import PngWriter
from snowmelt.formats.writer import sample_name

__all__ = ["ClassFolderWriter"]

UNCONDITIONAL = "images"
# Not a path, not hidden, and a name on every file system
UNSAFE = re.compile(r'^$|^[.\s]|[.\s]$|[/\\<>:"|?*\x00-\x1f\x7f]')
LONGEST_NAME = 255  # bytes
# Of what lies beside the folders, such as labels.csv and manifest.json
FILE_SUFFIXES = (".csv", ".json", ".png", ".yaml")


class ClassFolderWriter(PngWriter):
    """Writes each image as a PNG file, in a folder of its class.

    The folders have the names of the classes; an unconditional model has one, ``images``. `finish` makes a
    folder for every class, so that ``ImageFolder`` counts the classes as the model does. ``ImageFolder``
    refuses classes without images unless it gets ``allow_empty=True``. It numbers the classes by the
    alphabet, with 10 before 2; snowmelt takes their natural order. Zero-padded numbers are in both orders.
    """

    name = "class_folders"

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.class_names or ()
        for name in names:
            if UNSAFE.search(name) or len(name.encode()) > LONGEST_NAME:
                raise InputError(
                    f"{name!r} cannot be a folder of images: a class name for class_folders is plain text "
                    'without / \\ < > : " | ? *, with no dot or space at its ends'
                )
            if name.lower().endswith(FILE_SUFFIXES):
                raise InputError(
                    f"{name!r} cannot be a folder of images, since files beside the folders are called so: "
                    f"give the class a name that does not end in {', '.join(FILE_SUFFIXES)}, or take another "
                    "output format"
                )
        if len({name.casefold() for name in names}) < len(names):
            raise InputError(
                "class names for class_folders must differ in more than upper and lower case, "
                f"got {list(names)}"
            )

    def location(self, index: int) -> str:
        if self.class_names is None or self.class_labels is None:
            return f"{UNCONDITIONAL}/{sample_name(index)}"
        return f"{self.class_names[self.class_labels[index]]}/{sample_name(index)}"

    def _join(self) -> None:
        for folder in self._folders():
            folder.mkdir(exist_ok=True)

    def _own(self) -> Iterable[Path]:
        # In the folder of any class, so that a job can be cleared whose labels are not known
        names = {sample_name(index) for index in range(self.num_samples)}
        for folder in self._folders():
            yield from (path for path in folder.glob("*.png") if path.name in names)
            yield folder

    def _folders(self) -> Sequence[Path]:
        return [self.folder / name for name in self.class_names or (UNCONDITIONAL,)]
