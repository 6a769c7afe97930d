"""The images that a form asks for, as a value; and what else asks for the same ones."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.studio.choices import ALL_CLASSES
from snowmelt.studio.place import Loaded

__all__ = ["MOST_IMAGES", "Wanted"]

MOST_IMAGES = 64  # on the page


@dataclass(frozen=True)
class Wanted:
    """Images: of which model, how, and how many.

    Args:
        checkpoint: as a command names it.
        method: its text form; "" for the checkpoint's own.
        label: a class, or -1 for all in turn.
        count: how many.
        guidance_scale: as in `DiffusionSampler.sample`.
        seed: each image gets its own seed from it.
    """

    checkpoint: Path
    method: str = ""
    label: int = ALL_CLASSES
    count: int = 8
    guidance_scale: float = 0.0
    seed: int = 0

    def images(self, model: Loaded) -> tuple[list[int] | None, list[int]]:
        """Return the label of each image and its seed: those of ``snowmelt sample``."""
        from snowmelt.generation import choose_images

        if not 1 <= self.count <= MOST_IMAGES:
            raise InputError(f"a page shows 1 to {MOST_IMAGES} images, got {self.count}")
        classes = model.base.model.num_classes
        selection = None if self.label == ALL_CLASSES else [self.label]
        labels, seeds, _ = choose_images(classes, self.count, base_seed=self.seed, class_selection=selection)
        return labels, seeds

    def command(self) -> str:
        """Return the command that makes the same images."""
        words = ["snowmelt", "sample", str(self.checkpoint), "--num", str(self.count)]
        if self.method:
            words += ["--method", self.method]
        if self.label != ALL_CLASSES:
            words += ["--class", str(self.label)]
        if self.guidance_scale:
            words += ["--guidance", f"{self.guidance_scale:g}"]
        return shlex.join([*words, "--seed", str(self.seed), "--out", "samples.png"])

    def lines(self) -> str:
        """Return Python lines that make the same images."""
        method = f", method={json.dumps(self.method)}" if self.method else ""
        selection = "None" if self.label == ALL_CLASSES else f"[{self.label}]"
        return f"""\
from snowmelt import DiffusionSampler
from snowmelt.generation import choose_images

sampler = DiffusionSampler.from_pretrained({json.dumps(str(self.checkpoint))}{method})
labels, seeds, _ = choose_images(
    sampler.model.num_classes, {self.count}, base_seed={self.seed}, class_selection={selection}
)
images = sampler.sample(len(seeds), labels, {self.guidance_scale:g}, seeds=seeds)
"""
