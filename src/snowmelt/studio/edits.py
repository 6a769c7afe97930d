"""The five edits of the page, each as one value: what is called, and the command and lines that do the same.

An edit says once which function of `snowmelt.editing` it calls, and with what. The page calls it, and the
Python lines are the same call in words, so that the two cannot differ.
"""

from __future__ import annotations

import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from snowmelt.errors import InputError
from snowmelt.text import counted

if TYPE_CHECKING:
    from torch import Tensor

    from snowmelt.sampling import DiffusionSampler

__all__ = [
    "MASK",
    "MOST_IMAGES",
    "NO_CLASS",
    "PICTURE",
    "RESULT",
    "ClassSwap",
    "Edit",
    "Form",
    "Inpainting",
    "Interpolation",
    "Inversion",
    "Variation",
]

NO_CLASS = -1
MOST_IMAGES = 64  # on the page
PICTURE, MASK, RESULT = "picture.png", "mask.png", "edited.png"  # the files of a command


class Said(NamedTuple):
    """A value, and how the Python lines say it."""

    value: Any
    text: str


class Call(NamedTuple):
    """A call of a function of `snowmelt.editing`, with a sampler before the arguments."""

    function: str
    arguments: Sequence[Any]
    keywords: dict[str, Any]


class Result(NamedTuple):
    """What an edit made.

    Attributes:
        images: (N, C, H, W) in [-1, 1].
        note: what else there is to say.
    """

    images: Tensor
    note: str = ""


@dataclass(frozen=True)
class Form:
    """What all edits are asked for.

    Attributes:
        checkpoint: as a command names it.
        method: its text form; "" for the checkpoint's own.
        guidance_scale: 0 for none.
    """

    checkpoint: Path
    method: str = ""
    guidance_scale: float = 0.0


@dataclass(frozen=True)
class Edit(ABC):
    """Abstract: an edit.

    Attributes:
        form: what all edits are asked for.
        command: of ``snowmelt edit``.
        takes: the pictures that it is called with: none, ``images``, or ``images`` and ``known``.
    """

    form: Form

    command: ClassVar[str]
    takes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def call(self, **pictures: Tensor | None) -> Call:
        """Return what is called, with the pictures that are at hand."""

    @abstractmethod
    def options(self) -> list[object]:
        """Return the options of the command, without those of the form."""

    @property
    @abstractmethod
    def captions(self) -> list[str]:
        """What stands under each image of the result."""

    @property
    def nrow(self) -> int:
        """Images in a row of the command's picture."""
        return len(self.captions)

    @property
    def times(self) -> int:
        """How often the picture to edit goes in."""
        return 1

    def __call__(self, sampler: DiffusionSampler, picture: Tensor | None = None, **mask: Tensor) -> Result:
        """Edit.

        Args:
            sampler: of the form's checkpoint and method.
            picture: (1, C, H, W) in [-1, 1], of the edits that take one.
            mask: ``known``, bool (H, W), True where the picture stays as it is.
        """
        import snowmelt.editing

        images = picture.expand(self.times, -1, -1, -1) if picture is not None else None
        function, arguments, keywords = self.call(images=images, **mask)
        keywords = {name: _value(each) for name, each in (keywords | self._guidance()).items()}
        found = getattr(snowmelt.editing, function)(sampler, *map(_value, arguments), **keywords)
        return self.result(images, found)

    def result(self, images: Tensor | None, found: Any) -> Result:
        """Return the result of what the function has returned."""
        return Result(found)

    def command_line(self) -> str:
        """Return the command that makes the same images."""
        form = self.form
        words = ["snowmelt", "edit", self.command, form.checkpoint, *([PICTURE] if self.takes else [])]
        words += ["--method", form.method] if form.method else []
        words += ["--guidance", f"{form.guidance_scale:g}"] if form.guidance_scale else []
        return shlex.join(map(str, [*words, *self.options(), "--out", RESULT]))

    def lines(self) -> str:
        """Return Python lines that make the same images."""
        function, arguments, keywords = self.call()
        method = f", method={json.dumps(self.form.method)}" if self.form.method else ""
        said = [_text(each) for each in arguments]
        said += [f"{name}={_text(each)}" for name, each in (keywords | self._guidance()).items()]
        readers = ["read_images", "read_mask"][: len(self.takes)]
        lines = [
            "from snowmelt import DiffusionSampler",
            f"from snowmelt.editing import {function}",
            *([f"from snowmelt.editing.pictures import {', '.join(readers)}"] if readers else []),
            *(["from snowmelt.sampling import image_seeds"] if "image_seeds" in "".join(said) else []),
            "",
            f"sampler = DiffusionSampler.from_pretrained({json.dumps(str(self.form.checkpoint))}{method})",
        ]
        times = f" * {self.times}" if self.times > 1 else ""
        shape = "sampler.model.image_shape"
        if "images" in self.takes:
            lines += [f"images = read_images([Path({PICTURE!r})]{times}, {shape})"]
        if "known" in self.takes:
            lines += [f"known = read_mask(Path({MASK!r}), {shape})"]
        if self.takes:
            lines.insert(0, "from pathlib import Path\n")
        return "\n".join([*lines, f"{self._name} = {function}(sampler, {', '.join(said)})", ""])

    _name: ClassVar[str] = "images"

    def _guidance(self) -> dict[str, float]:
        return {"guidance_scale": self.form.guidance_scale} if self.form.guidance_scale else {}


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

    @property
    def captions(self) -> list[str]:
        """How far each image is from the first end."""
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

    @property
    def captions(self) -> list[str]:
        """A number for each."""
        return [f"variation {i + 1}" for i in range(self.num)]


@dataclass(frozen=True)
class ClassSwap(Edit):
    """A picture as members of other classes.

    Attributes:
        label: what it shows.
        targets: labels, with their names.
    """

    label: int
    targets: tuple[tuple[int, str], ...]

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
        return Call(
            "swap_class", [images, [self.label] * self.times, [label for label, _ in self.targets]], {}
        )

    def options(self) -> list[object]:
        """Return the options of the command."""
        return ["--from", self.label, "--to", _listed([label for label, _ in self.targets])]

    @property
    def captions(self) -> list[str]:
        """The new classes."""
        return [name for _, name in self.targets]


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

    @property
    def captions(self) -> list[str]:
        """A number for each."""
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

    @property
    def captions(self) -> list[str]:
        """What each is."""
        return ["picture", "its noise", "restored"]


def check_number(num: int) -> None:
    """Raise InputError for more images than the page shows."""
    if not 1 <= num <= MOST_IMAGES:
        raise InputError(f"a page shows 1 to {counted(MOST_IMAGES, 'image')}, got {num}")


def _labels(labels: Sequence[int]) -> dict[str, Any]:
    return {} if labels[0] == NO_CLASS else {"class_labels": list(labels)}


def _class(*labels: int) -> list[object]:
    return [] if labels[0] == NO_CLASS else ["--class", _listed(labels)]


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _value(each: Any) -> Any:
    return each.value if isinstance(each, Said) else each


def _text(each: Any) -> str:
    return each.text if isinstance(each, Said) else repr(each)
