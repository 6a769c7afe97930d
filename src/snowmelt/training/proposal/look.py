"""A look at images before anything is chosen: how many, how large, in colour or not, in which classes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median_low

from torch import Tensor

from snowmelt.data.training_images import labelled, unparted
from snowmelt.formats import ImageSource, open_images
from snowmelt.text import counted, some

__all__ = ["Look"]

LOOKED_AT = 100  # images that are opened, evenly over all of them
GRAY = 8  # levels, of 255, by which the channels of a gray JPEG may differ


@dataclass(frozen=True)
class Look:
    """What there is to learn from.

    Attributes:
        path: what was opened.
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
        """Look at images as `open_images` takes them.

        Raises:
            InputError: there are no images, they are of several parts, or one of them cannot be decoded.

        >>> look = Look.at("digits:test")
        >>> look.images, look.side, look.in_channels, look.classes["3"]
        (360, 8, 1, 37)
        """
        return cls.of(open_images(path), path)

    @classmethod
    def of(cls, source: ImageSource, path: str) -> Look:
        """Look at images that were opened.

        Args:
            source: the images.
            path: what opens them again.
        """
        source = labelled(unparted(source, path))
        assert source.labels is not None
        opened = list(source.originals(range(0, len(source), -(-len(source) // LOOKED_AT))))
        names = source.class_names or []
        counts = source.labels.bincount(minlength=len(names)).tolist()
        return cls(
            path,
            len(source),
            median_low(min(image.shape[1:]) for image in opened),
            1 if all(map(_is_gray, opened)) else 3,
            dict(zip(names, counts, strict=True)) if len(names) > 1 else {},
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
