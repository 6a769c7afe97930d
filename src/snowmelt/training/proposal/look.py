"""A look at images before anything is chosen: how many, how large, in colour or not, in which classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.formats.opening import NATIVE_SHAPES, open_images
from snowmelt.images import class_folders, image_files, read_image
from snowmelt.text import counted, some

__all__ = ["Look"]

LOOKED_AT = 100  # images that are opened, evenly over all of them
GRAY = 8  # levels, of 255, by which the channels of a gray JPEG may differ


@dataclass(frozen=True)
class Look:
    """What there is to learn from.

    Attributes:
        path: the folder, or the name of a data set.
        images: how many.
        side: the shorter side, in pixels, that half of the images reach.
        in_channels: 1 if all that were opened are gray, else 3.
        classes: the number of images of each class; empty without classes.
    """

    path: str
    images: int
    side: int
    in_channels: int
    classes: dict[str, int]

    @classmethod
    def at(cls, path: str) -> Look:
        """Look at a folder of images or of class folders, or at a data set.

        Raises:
            InputError: there are no images, or one of them cannot be decoded.

        >>> look = Look.at("digits:test")
        >>> look.images, look.side, look.in_channels, look.classes["3"]
        (360, 8, 1, 37)
        """
        if path.partition(":")[0] in NATIVE_SHAPES and not Path(path).is_dir():
            source = open_images(path)
            channels, side = NATIVE_SHAPES[path.partition(":")[0]]
            labels, names = source.labels, source.class_names
            found = labels.bincount(minlength=len(names or ())).tolist() if labels is not None else []
            return cls(path, len(source), side, channels, dict(zip(names or (), found, strict=True)))
        if not Path(path).is_dir():
            raise InputError(f"{path} is neither a folder of images nor one of {', '.join(NATIVE_SHAPES)}")
        folders = class_folders(Path(path))
        files = folders.files or image_files(Path(path))
        if not files:
            raise InputError(f"{path} has no images: give a folder of images, or one of class folders")
        opened = [read_image(file, 3) for file in files[:: -(-len(files) // LOOKED_AT)]]
        counts = Counter(folders.names[label] for label in folders.labels)
        return cls(
            path,
            len(files),
            median_low(min(image.shape[1:]) for image in opened),
            1 if all(map(_is_gray, opened)) else 3,
            {name: counts[name] for name in folders.names} if len(folders.names) > 1 else {},
        )

    def __str__(self) -> str:
        colour = "gray" if self.in_channels == 1 else "in colour"
        text = f"{counted(self.images, 'image')} of {self.path}, {colour}, {self.side} pixels a side"
        if not self.classes:
            return f"{text}, without classes"
        few, many = (pick(self.classes, key=self.classes.__getitem__) for pick in (min, max))
        return (
            f"{text}, in {counted(len(self.classes), 'class')} of {self.classes[few]:,} ({some([few])}) to "
            f"{self.classes[many]:,} ({some([many])})"
        )


def _is_gray(image: Tensor) -> bool:
    values = image.short()
    return bool((values.amax(dim=0) - values.amin(dim=0)).max() <= GRAY)
