"""What all stages of a job share: its folder, its configuration, the real images, the model and the features.

DIR/augment.yaml     what every stage does
DIR/split.json       which image trains, validates and tests
DIR/train.yaml       for ``snowmelt train``: proposed by the stage `look`
DIR/model/           the run: checkpoints, samples, report.html
DIR/generate.yaml    for ``snowmelt generate``: written by the stage `generate`
DIR/generated/       its images
DIR/report.html      the answer, and how it came about
DIR/dataset/         images for the next training
DIR/stages/          a record of each stage that is done
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from snowmelt.augment.division import divided
from snowmelt.config import Config, load_config
from snowmelt.config.augment import AugmentConfig
from snowmelt.device import resolve_device
from snowmelt.errors import InputError
from snowmelt.evaluation.features import Extractor, Features, extract_features
from snowmelt.evaluation.features.choose import choose_extractor
from snowmelt.files import user_cache
from snowmelt.formats import SPLIT_NAME, Division, ImageSource, open_images
from snowmelt.formats.classes import renumber_classes
from snowmelt.json_files import write_json
from snowmelt.models import Checkpoint
from snowmelt.sampling import DiffusionSampler
from snowmelt.text import seconds_in
from snowmelt.training.proposal import Look, Proposal, propose

__all__ = ["AugmentJob"]

TRAINING = 0.75  # share of the budget that training takes


@dataclass(frozen=True)
class AugmentJob:
    """A job and its folder; each attribute is read when it is asked for.

    Attributes:
        config: what every stage does.
        folder: where everything goes.
        quiet: show no progress.
    """

    config: AugmentConfig
    folder: Path
    quiet: bool = field(default=False, compare=False)

    @cached_property
    def device(self) -> torch.device:
        """Where the networks run."""
        return resolve_device(self.config.compute.device)

    @property
    def split_file(self) -> Path:
        """Which image belongs to which part."""
        return self.folder / SPLIT_NAME

    @property
    def train_file(self) -> Path:
        """The configuration of training."""
        return self.folder / "train.yaml"

    @property
    def generate_file(self) -> Path:
        """The configuration of generation."""
        return self.folder / "generate.yaml"

    @cached_property
    def division(self) -> Division:
        """Which image trains, validates and tests."""
        known = self.split_file.exists()
        return Division.read(self.split_file) if known else divided(self.config.data, self.config.split)

    @cached_property
    def proposal(self) -> Proposal:
        """What this machine can learn of the training images in its share of the time."""
        seconds = TRAINING * seconds_in(self.config.budget)
        look = Look.of(self.divided.part("train"), f"{self.split_file}:train")
        return propose(look, f"{seconds:.0f}s", self.device, stated=self.config.train)

    @cached_property
    def train_config(self) -> Config:
        """The configuration of training, as `train.yaml` has it."""
        return load_config(self.train_file)

    @property
    def checkpoint_path(self) -> Path:
        """The model at the end of training."""
        return self.folder / "model" / "checkpoints" / "latest.pth"

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model."""
        return Checkpoint.read(self.checkpoint_path)

    def sampler(self, method: str | None = None, guidance_scale: float = 0.0) -> DiffusionSampler:
        """Return a sampler of the model; a tuned plan is that of a guidance scale."""
        return DiffusionSampler.from_pretrained(
            self.checkpoint, self.device, method=method, guidance_scale=guidance_scale
        )

    def part(self, name: str) -> ImageSource:
        """Return the real images of a part, in the shape of the model's."""
        return self._shaped.part(name)

    @cached_property
    def divided(self) -> ImageSource:
        """All real images with their parts, as they are."""
        return self.division.of(open_images(self.division.data))

    @cached_property
    def _shaped(self) -> ImageSource:
        """The same in the shape of the model's images; alpha is laid on the background."""
        architecture = self.train_config.model.architecture
        source = open_images(
            self.division.data,
            image_size=architecture.image_size,
            channels=min(architecture.in_channels, 3),
            background=self.train_config.data.background,
        )
        return self.division.of(source)

    @property
    def class_names(self) -> list[str]:
        """The classes, in the order of their labels."""
        return list(self.divided.class_names or ())

    def counts(self, part: str) -> list[int]:
        """Return the number of real images of each class in a part."""
        labels = self.divided.part(part).labels
        assert labels is not None  # checked when they were divided
        found: list[int] = labels.bincount(minlength=len(self.class_names)).tolist()
        return found

    @cached_property
    def generated(self) -> ImageSource:
        """The generated images, whose classes are numbered as the real ones."""
        channels, *size = self.part("train").take([0]).shape[1:]
        source = open_images(
            self.folder / "generated",
            image_size=size,
            channels=channels,
            background=self.train_config.data.background,
        )
        return renumber_classes(source, self.class_names)

    @cached_property
    def extractor(self) -> Extractor:
        """What turns images into features."""
        return choose_extractor(
            self.config.extractor, self.part("train"), device=self.device, show_progress=not self.quiet
        )(user_cache())

    def features(self, source: ImageSource) -> Features:
        """Return the features of images; they are kept for the next call."""
        return extract_features(source, self.extractor, cache=user_cache(), show_progress=not self.quiet)

    def write(self, name: str, value: Any) -> None:
        """Write a result of a stage."""
        write_json(self.folder / "stages" / f"{name}.json", value)

    def read(self, name: str) -> Any:
        """Return a result of a stage.

        Raises:
            InputError: it is not there, or damaged.
        """
        path = self.folder / "stages" / f"{name}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read ({error}): run its stage again with --from {name}"
            ) from error
