"""Images that a view has made, with what is needed to go on with one of them and to say how it was made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from snowmelt.studio.place import Loaded
from snowmelt.studio.wanted import Wanted

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Made", "captions", "class_caption"]


@dataclass(frozen=True)
class Made:
    """Finished images.

    Attributes:
        model: which made them.
        wanted: how they were asked for.
        labels: the class of each; None without classes.
        seeds: of each.
        images: (N, C, H, W) in [-1, 1].
    """

    model: Loaded
    wanted: Wanted
    labels: Sequence[int] | None
    seeds: Sequence[int]
    images: Tensor

    def label(self, number: int) -> int | None:
        """Return the class of an image."""
        return self.labels[number] if self.labels is not None else None

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.wanted.chosen.method or self.model.base.method)

    @cached_property
    def provenance(self) -> dict[str, str]:
        """What the files of all images carry, as those of ``snowmelt generate`` do."""
        from snowmelt.config import load_config
        from snowmelt.generation.configured import provenance

        sampler = self.model.sampler(self.wanted.chosen.method, self.wanted.guidance_scale)
        return provenance(load_config("-", overrides(self.wanted)), sampler, self.model.digest)

    def metadata(self, number: int) -> dict[str, str]:
        """Return the texts that the file of an image carries; ``snowmelt inspect`` reads them."""
        from snowmelt.formats import image_texts

        return image_texts(self.provenance, number, self.label(number), self.seeds[number])

    def film_command(self, number: int, max_frames: int, scale: int) -> str:
        """Return the command that films an image."""
        words = [*self.wanted.common("edit", "film"), "--seeds", str(self.seeds[number])]
        words += ["--max-frames", str(max_frames), "--scale", str(scale)]
        return shlex.join([*words, *self._class_words(number), "--out", "film.webp"])

    def variations_command(self, number: int, count: int, strength: float) -> str:
        """Return the command that varies an image."""
        words = [*self.wanted.common("edit", "variations"), "--seed", str(self.seeds[number])]
        words += ["--strength", f"{strength:g}", "--num", str(count)]
        return shlex.join([*words, *self._class_words(number), "--out", "variations.png"])

    def _class_words(self, number: int) -> list[str]:
        return [] if (label := self.label(number)) is None else ["--class", str(label)]


def overrides(wanted: Wanted) -> list[str]:
    """Return the arguments of ``snowmelt generate -`` that sample in the same way."""
    chosen, words = wanted.chosen, [f"generation.checkpoint={wanted.checkpoint}", "mode=generate"]
    if wanted.guidance_scale:
        words.append(f"generation.sampling.guidance_scale={wanted.guidance_scale!r}")
    if chosen.method is not None and chosen.method.table is not None:
        words.append(f"generation.sampling.plan={chosen.text}")
    elif chosen.method is not None and chosen.method.preset is not None:
        words.append(f"generation.sampling.preset={chosen.method.preset}")
    elif chosen.method is not None:
        stated = chosen.method.to_dict()
        stated["type"] = stated.pop("solver")
        words.append(f"generation.sampling.sampler={json.dumps(stated)}")
    return words


def captions(model: Loaded, labels: Sequence[int] | None, count: int) -> list[str]:
    """Return what stands under each of some pictures: its class."""
    return [class_caption(model, label) for label in labels or (None,) * count]


def class_caption(model: Loaded, label: int | None) -> str:
    """Return what a class is called: its name, if it is known, or else its number."""
    names = model.class_names or ()
    return "" if label is None else names[label] if label < len(names) else str(label)
