"""The five edits of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from snowmelt.errors import InputError
from snowmelt.studio.editing import MASK, Call, Edit, Result, Said
from snowmelt.text import counted

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MOST_IMAGES", "NO_CLASS", "ClassSwap", "Inpainting", "Interpolation", "Inversion", "Variation"]

NO_CLASS = -1
MOST_IMAGES = 64  # on the page


@dataclass(frozen=True)
class Interpolation(Edit):
    """Images on the path from a seed and class to another.

    Attributes:
        seeds: of both ends.
        labels: of both ends, or `NO_CLASS`.
        num: how many.
        loop: and back again.
    """

    seeds: tuple[int, int]
    labels: tuple[int, int] = (NO_CLASS, NO_CLASS)
    num: int = 9
    loop: bool = False

    command: ClassVar[str] = "interpolate"

    def __post_init__(self) -> None:
        check_number(self.num)
        if (self.labels[0] == NO_CLASS) != (self.labels[1] == NO_CLASS):
            raise InputError("one end has a class and the other one has none: choose both, or none")

    def call(self, **pictures: Tensor | None) -> Call:
        """Return what is called."""
        return Call(
            "interpolate",
            [list(self.seeds), self.num],
            _labels(self.labels) | ({"loop": True} if self.loop else {}),
        )

    def options(self) -> list[object]:
        """Return the options of the command."""
        loop = ["--loop"] if self.loop else []
        return ["--seeds", _listed(self.seeds), "--num", self.num, *_class(*self.labels), *loop]

    def captions(self, class_names: Sequence[str] | None = None) -> list[str]:
        """Return how far each image is from the first end."""
        parts = self.num if self.loop else max(1, self.num - 1)
        shares = [(2 if self.loop else 1) * i / parts for i in range(self.num)]
        return [f"{share if share <= 1 else 2 - share:.0%}" for share in shares]


@dataclass(frozen=True)
class Variation(Edit):
    """Images near that of a seed."""

    seed: int
    strength: float = 0.3
    num: int = 8
    label: int = NO_CLASS

    command: ClassVar[str] = "variations"

    def __post_init__(self) -> None:
        check_number(self.num)

    def call(self, **pictures: Tensor | None) -> Call:
        """Return what is called."""
        keywords: dict[str, Any] = {"strength": self.strength}
        label = {} if self.label == NO_CLASS else {"class_label": self.label}
        return Call("variations", [self.seed, self.num], keywords | label)

    def options(self) -> list[object]:
        """Return the options of the command."""
        strength = f"{self.strength:g}"
        return ["--seed", self.seed, "--num", self.num, "--strength", strength, *_class(self.label)]

    def captions(self, class_names: Sequence[str] | None = None) -> list[str]:
        """Return a number for each."""
        return [f"variation {i + 1}" for i in range(self.num)]


@dataclass(frozen=True)
class ClassSwap(Edit):
    """A picture as members of other classes.

    Attributes:
        label: what it shows.
        targets: labels.
    """

    label: int
    targets: tuple[int, ...]

    command: ClassVar[str] = "swap-class"
    takes: ClassVar[tuple[str, ...]] = ("images",)

    def __post_init__(self) -> None:
        if self.label == NO_CLASS:
            raise InputError("choose the class that the picture shows now")
        if not self.targets:
            raise InputError("choose one or more classes that the picture shall change into")

    @property
    def times(self) -> int:
        """Once for each target."""
        return len(self.targets)

    def call(self, **pictures: Tensor | None) -> Call:
        """Return what is called."""
        images = Said(pictures.get("images"), "images")
        return Call("swap_class", [images, [self.label] * self.times, list(self.targets)], {})

    def options(self) -> list[object]:
        """Return the options of the command."""
        return ["--from", self.label, "--to", _listed(self.targets)]

    def captions(self, class_names: Sequence[str] | None = None) -> list[str]:
        """Return the new classes."""
        return [class_name(class_names, label) for label in self.targets]


@dataclass(frozen=True)
class Inpainting(Edit):
    """A picture with a part painted anew, some times."""

    seed: int = 0
    num: int = 4
    resamplings: int = 10
    label: int = NO_CLASS

    command: ClassVar[str] = "inpaint"
    takes: ClassVar[tuple[str, ...]] = ("images", "known")

    def __post_init__(self) -> None:
        check_number(self.num)

    @property
    def times(self) -> int:
        """Once for each result."""
        return self.num

    def call(self, **pictures: Tensor | None) -> Call:
        """Return what is called."""
        from snowmelt.sampling import image_seeds

        seeds = Said(image_seeds(self.seed, self.num), f"image_seeds({self.seed}, {self.num})")
        return Call(
            "inpaint",
            [Said(pictures.get(name), name) for name in self.takes],
            {"resamplings": self.resamplings, **_labels([self.label] * self.num), "seeds": seeds},
        )

    def options(self) -> list[object]:
        """Return the options of the command."""
        passes = ["--resamplings", self.resamplings]
        return ["--mask", MASK, "--num", self.num, *passes, *_class(self.label), "--seed", self.seed]

    def captions(self, class_names: Sequence[str] | None = None) -> list[str]:
        """Return a number for each."""
        return [f"result {i + 1}" for i in range(self.num)]


@dataclass(frozen=True)
class Inversion(Edit):
    """A picture, the noise that it comes from, and what sampling makes of that noise."""

    label: int = NO_CLASS

    command: ClassVar[str] = "invert"
    takes: ClassVar[tuple[str, ...]] = ("images",)
    _name: ClassVar[str] = "noise, restored, error"

    def call(self, **pictures: Tensor | None) -> Call:
        """Return what is called."""
        labels = [] if self.label == NO_CLASS else [[self.label]]
        return Call("invert", [Said(pictures.get("images"), "images"), *labels], {})

    def options(self) -> list[object]:
        """Return the options of the command."""
        return _class(self.label)

    def result(self, images: Tensor | None, found: Any) -> Result:
        """Return input, noise and reconstruction, and the error of the way back."""
        import torch

        assert images is not None
        error = (
            f"Round trip error {found.round_trip_error.item():.4f} (root mean square; an image's range is 2)"
        )
        return Result(torch.cat([images.to(found.noise.device), found.noise, found.restored]), error)

    def captions(self, class_names: Sequence[str] | None = None) -> list[str]:
        """Return what each is."""
        return ["picture", "its noise", "restored"]


def check_number(num: int) -> None:
    """Raise InputError for more images than the page shows."""
    if not 1 <= num <= MOST_IMAGES:
        raise InputError(f"a page shows 1 to {counted(MOST_IMAGES, 'image')}, got {num}")


def class_name(names: Sequence[str] | None, label: int) -> str:
    """Return what a class is called.

    >>> class_name(["cat", "dog"], 1), class_name(None, 1)
    ('dog', 'class 1')
    """
    return names[label] if names is not None and label < len(names) else f"class {label}"


def _labels(labels: Sequence[int]) -> dict[str, Any]:
    return {} if labels[0] == NO_CLASS else {"class_labels": list(labels)}


def _class(*labels: int) -> list[object]:
    return [] if labels[0] == NO_CLASS else ["--class", _listed(labels)]


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
