"""The images that a form asks for, as a value; and what else asks for the same ones."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.studio.place import Chosen, Loaded

__all__ = ["ALL_CLASSES", "MOST_IMAGES", "Wanted"]

ALL_CLASSES = -1  # in place of a class: each in turn
MOST_IMAGES = 64  # on the page
CHECKPOINTS_OWN = Chosen()


@dataclass(frozen=True)
class Wanted:
    """Images: of which model, how, and how many.

    Attributes:
        checkpoint: as a command names it.
        device: as for ``--device``.
        chosen: the method.
        label: a class, or -1 for all in turn.
        count: how many.
        guidance_scale: as in `DiffusionSampler.sample`.
        seed: each image gets its own seed from it.
    """

    checkpoint: Path
    device: str = "auto"
    chosen: Chosen = CHECKPOINTS_OWN
    label: int = ALL_CLASSES
    count: int = 16
    guidance_scale: float = 0.0
    seed: int = 0

    def images(self, model: Loaded) -> tuple[list[int] | None, list[int]]:
        """Return the label of each image and its seed: those of ``snowmelt sample``.

        Raises:
            InputError: the model has no such class, or these are too many images for a page.
        """
        from snowmelt.generation import choose_images

        if not 1 <= self.count <= MOST_IMAGES:
            raise InputError(f"a page shows 1 to {MOST_IMAGES} images, got {self.count}")
        classes = model.base.model.num_classes
        selection = None if self.label == ALL_CLASSES else [self.label]
        labels, seeds, _ = choose_images(classes, self.count, base_seed=self.seed, class_selection=selection)
        return labels, seeds

    def common(self, *subcommand: str) -> list[str]:
        """Return a command with the checkpoint and how to sample it, as words."""
        words = ["snowmelt", *subcommand, str(self.checkpoint)]
        words += ["--method", self.chosen.text] if self.chosen.text else []
        words += ["--guidance", f"{self.guidance_scale:g}"] if self.guidance_scale else []
        return words + (["--device", self.device] if self.device != "auto" else [])

    def command(self, out: str = "samples.png") -> str:
        """Return the command that makes the same images."""
        words = [*self.common("sample"), "--num", str(self.count), "--seed", str(self.seed)]
        words += ["--class", str(self.label)] if self.label != ALL_CLASSES else []
        return shlex.join([*words, "--out", out])

    def lines(self, device: str, name: str = "images") -> str:
        """Return Python lines that make the same images on a device, and give them a name."""
        arguments = [json.dumps(str(self.checkpoint))]
        arguments += [json.dumps(device)] if device != "cpu" else []
        arguments += [f"method={json.dumps(self.chosen.text)}"] if self.chosen.text else []
        if self.chosen.method is not None and self.chosen.method.auto:
            arguments += [f"guidance_scale={self.guidance_scale:g}"]
        selection = None if self.label == ALL_CLASSES else [self.label]
        return f"""\
from snowmelt import DiffusionSampler
from snowmelt.generation import choose_images

sampler = DiffusionSampler.from_pretrained({", ".join(arguments)})
labels, seeds, _ = choose_images(
    sampler.model.num_classes, {self.count}, base_seed={self.seed}, class_selection={selection}
)
{name} = sampler.sample(len(seeds), labels, {self.guidance_scale:g}, seeds=seeds)
"""
