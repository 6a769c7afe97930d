"""An edit of the page as one value: what is called, and the command and the Python lines that do the same.

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

if TYPE_CHECKING:
    from torch import Tensor

    from snowmelt.sampling import DiffusionSampler

__all__ = ["MASK", "PICTURE", "RESULT", "Call", "Edit", "Form", "Result", "Said"]

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
        device: as for ``--device``.
    """

    checkpoint: Path
    method: str = ""
    guidance_scale: float = 0.0
    device: str = "auto"


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

    @abstractmethod
    def captions(self, class_names: Sequence[str] | None = None) -> list[str]:
        """Return what stands under each image of the result."""

    @property
    def nrow(self) -> int:
        """Images in a row of the command's picture."""
        return len(self.captions())

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
        words += ["--device", form.device] if form.device != "auto" else []
        return shlex.join(map(str, [*words, *self.options(), "--out", RESULT]))

    def lines(self, device: str) -> str:
        """Return Python lines that make the same images on a device."""
        function, arguments, keywords = self.call()
        sampler = [json.dumps(str(self.form.checkpoint))]
        sampler += [json.dumps(device)] if device != "cpu" else []
        sampler += [f"method={json.dumps(self.form.method)}"] if self.form.method else []
        said = [_text(each) for each in arguments]
        said += [f"{name}={_text(each)}" for name, each in (keywords | self._guidance()).items()]
        readers = ["read_images", "read_mask"][: len(self.takes)]
        lines = [
            "from snowmelt import DiffusionSampler",
            f"from snowmelt.editing import {function}",
            *([f"from snowmelt.editing.pictures import {', '.join(readers)}"] if readers else []),
            *(["from snowmelt.sampling import image_seeds"] if "image_seeds" in "".join(said) else []),
            "",
            f"sampler = DiffusionSampler.from_pretrained({', '.join(sampler)})",
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


def _value(each: Any) -> Any:
    return each.value if isinstance(each, Said) else each


def _text(each: Any) -> str:
    return each.text if isinstance(each, Said) else repr(each)
