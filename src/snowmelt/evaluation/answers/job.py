"""What `snowmelt evaluate` does: check everything, then answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch

from snowmelt._version import __version__
from snowmelt.checkpoint_header import SUFFIXES
from snowmelt.errors import InputError
from snowmelt.evaluation.answers.answers import Answers
from snowmelt.evaluation.answers.novelty import novelty
from snowmelt.evaluation.answers.scores import evaluate
from snowmelt.evaluation.answers.selection import check_new_folder, check_rule, select, write_selection
from snowmelt.evaluation.answers.usefulness import usefulness
from snowmelt.evaluation.cached_images import cache_images
from snowmelt.evaluation.features import (
    Extractor,
    Features,
    Moments,
    extract_features,
    is_statistics,
    make_extractor,
    open_reference,
)
from snowmelt.evaluation.features.choose import choose_extractor
from snowmelt.evaluation.ladder import build_ladder
from snowmelt.evaluation.matching import check_labelled, check_one_shape, labels_in_shares_of
from snowmelt.evaluation.metrics import check_metrics
from snowmelt.evaluation.sampled import SampledSource
from snowmelt.files import check_writable
from snowmelt.formats import ImageSource, open_images
from snowmelt.formats.classes import renumber_classes
from snowmelt.images import BACKGROUND
from snowmelt.models import Checkpoint
from snowmelt.plans import Method
from snowmelt.precision import check_precision
from snowmelt.report import check_report_libraries
from snowmelt.sampling import DiffusionSampler, Request, image_seeds
from snowmelt.text import counted

__all__ = ["EvaluationJob"]

MODEL_FILES = ("model_index.json", "config.json")  # of a folder of diffusers
SAMPLED_TOGETHER = 256
SELECTED = "selected"


class _Sources(NamedTuple):
    generated: ImageSource
    real: ImageSource | None  # None if only statistics are known
    training: ImageSource | None
    held_out: ImageSource | None


@dataclass(frozen=True, kw_only=True)
class EvaluationJob:
    """Questions about generated images.

    Attributes:
        generated: images as for `open_images`, or a model to sample: a checkpoint or a folder of diffusers.
        real: real images, or a file of their statistics.
        train: the images that the model was trained on; None takes those of `real`.
        held_out: real images that the model never saw, to look for copies of training images.
        useful: train classifiers with and without the generated images; needs `held_out`.
        select: a key of `SELECTIONS` and its number, to keep the images nearest to the real ones.
        metrics: keys of `METRICS`; None takes all that are possible.
        per_class: measure each class by itself too.
        ladder: measure spoilt real images too, for a scale; needs the real images, not their statistics.
        out: the folder of the report; None writes none.
        image_size, channels: as for `open_images`. A model has its own size and channels. If none are given,
            the generated images decide, and all others are brought to their shape.
        background: the colour behind transparent pixels; None takes that of the model's training, if it is
            known.
        extractor, weights: as in `choose_extractor`.
        num_samples, seed, guidance_scale, use_ema: the images to sample from a model, in the classes of the
            real images and in their shares.
        method: how to sample, in any form that `Method.of` takes; None takes the model's own method, or the
            default.
        device: where to sample and to compute.
        precision: of the network that samples, as for `DiffusionSampler`.
        batch_size: the number of images whose features are computed together.
        cache: a folder that keeps images, features and classifiers; None keeps nothing.
        show_progress: show bars.
    """

    generated: Path
    real: Path
    train: Path | None = None
    held_out: Path | None = None
    useful: bool = False
    select: tuple[str, float] | None = None
    metrics: Sequence[str] | None = None
    per_class: bool = True
    ladder: bool = True
    out: Path | None = None
    image_size: int | Sequence[int] | None = None
    channels: int | None = None
    background: str | None = None
    extractor: str | None = None
    weights: Path | None = None
    num_samples: int = 2048
    seed: int = 0
    guidance_scale: float = 0.0
    use_ema: bool = True
    method: Method | str | None = None
    device: str | torch.device = "cpu"
    precision: str = "fp32"
    batch_size: int = 64
    cache: Path | None = None
    show_progress: bool = False

    def check(self) -> None:
        """Check everything that can fail, and keep what was opened.

        Raises:
            InputError, ValueError: an input cannot be used; the message says why.
        """
        check_precision(self.precision, self.device)
        if self.channels not in (None, 1, 3):
            raise InputError(
                f"--channels is 1 (gray) or 3 (colour), since metrics know no alpha; got {self.channels}"
            )
        if self.metrics is not None:
            check_metrics(self.metrics)
        if self.useful and self.held_out is None:
            raise InputError(
                "--useful tests classifiers on real images that nobody has seen: give --held-out"
            )
        statistics = is_statistics(self.real)
        if self.held_out is not None and statistics and self.train is None:
            raise InputError("--held-out is for finding copies of training images: give these as --train")
        if self.select is not None:
            if statistics or self.out is None:
                raise InputError("--select compares with real images, and writes into --out: give both")
            check_rule(*self.select)
            check_new_folder(self.out / SELECTED)
        if self.out is not None:
            check_report_libraries("a report")
            check_writable(self.out)
        _ = self._make_extractor
        sources = [source for source in self.sources if source is not None]
        check_one_shape(sources)
        if self.useful:
            check_labelled(sources)
        if self.extractor == "classifier":  # before minutes of training, seconds of reading
            for source in sources:
                if source is not self.sources.training and not isinstance(source, SampledSource):
                    deque(source.batches(self.batch_size), maxlen=0)

    def run(self) -> Answers:
        """Answer all questions, and write the report if there is a folder for it."""
        self.check()
        generated, real, training, held_out = self.sources
        if isinstance(generated, SampledSource):  # sampled once, and looked at several times
            generated = cache_images(
                generated, self.cache, batch_size=SAMPLED_TOGETHER, show_progress=self.show_progress
            )
        extractor = self._make_extractor(self.cache)
        features = self._features(generated, extractor)
        reference = open_reference(
            real or self.real,
            extractor,
            batch_size=self.batch_size,
            cache=self.cache,
            show_progress=self.show_progress,
        )
        scores = evaluate(
            features,
            reference,
            metrics=self.metrics,
            per_class=self.per_class,
            show_progress=self.show_progress,
        )
        ladder = None
        if self.ladder and real is not None and isinstance(reference, Features):
            ladder = build_ladder(
                real,
                reference,
                extractor,
                generated=features,
                # Where all sets are equally large, FID says as much, in a seventh of the time
                metrics=[name for name in scores.overall if name != "fid_infinity"],
                batch_size=self.batch_size,
                cache=self.cache,
                show_progress=self.show_progress,
            )
        new, useful, kept = None, None, None
        if held_out is not None and training is not None:
            sources, pixels = (generated, training, held_out), make_extractor("pixels")
            known = reference if training is real else self._features(training, extractor)
            assert isinstance(known, Features)  # training images are never statistics
            new = {
                "features": novelty(features, known, self._features(held_out, extractor)),
                "pixels": novelty(*(self._features(source, pixels) for source in sources)),
            }
            if self.useful:
                useful = usefulness(
                    *sources,
                    extractor=extractor,
                    device=self.device,
                    cache=self.cache,
                    show_progress=self.show_progress,
                )
        if self.select is not None and self.out is not None and isinstance(reference, Features):
            per_class = self.per_class and features.labels is not None and reference.labels is not None
            kept = select(features, reference, *self.select, per_class=per_class)
            write_selection(kept, generated, self.out / SELECTED)
        answers = Answers(self._about(features, reference, extractor), scores, ladder, new, useful, kept)
        if self.out is not None:
            answers.write(self.out, generated, real, training)
        return answers

    def _features(self, source: ImageSource, extractor: Extractor) -> Features:
        return extract_features(
            source,
            extractor,
            batch_size=self.batch_size,
            cache=self.cache,
            show_progress=self.show_progress,
        )

    @cached_property
    def sources(self) -> _Sources:
        real = None if is_statistics(self.real) else self._open_like(self.real)
        training = real if self.train is None else self._open_like(self.train, real)
        held_out = None if self.held_out is None else self._open_like(self.held_out, training)
        like = real or training
        names = like.class_names if like is not None else None
        generated = self._sampled(like) if _is_model(self.generated) else self._given
        return _Sources(renumber_classes(generated, names), real, training, held_out)

    @cached_property
    def _given(self) -> ImageSource:
        """The generated images that are not to be sampled."""
        return open_images(
            self.generated, image_size=self.image_size, channels=self.channels, background=self._background
        )

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return Checkpoint.read(self.generated)

    @cached_property
    def _sampler(self) -> DiffusionSampler:
        return DiffusionSampler.from_pretrained(
            self._checkpoint,
            self.device,
            use_ema=self.use_ema,
            method=self.method,
            guidance_scale=self.guidance_scale,
            precision=self.precision,
        )

    @cached_property
    def _shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the generated images, as they are compared."""
        if _is_model(self.generated):
            channels, height, width = self._sampler.model.image_shape
            channels = min(channels, 3)  # alpha is laid on the background
        else:
            channels, height, width = self._given.take([0]).shape[1:]
        return channels, height, width

    @cached_property
    def _background(self) -> str:
        trained = self._checkpoint.background if _is_model(self.generated) else None
        return self.background or trained or BACKGROUND

    def _open_like(self, path: Path, like: ImageSource | None = None) -> ImageSource:
        """Open images in the shape of the generated ones, with the classes of others, if there are any."""
        channels, *size = self._shape
        source = open_images(
            path,
            image_size=self.image_size or size,
            channels=self.channels or channels,
            background=self._background,
        )
        return renumber_classes(source, like.class_names if like is not None else None)

    def _sampled(self, like: ImageSource | None) -> ImageSource:
        checkpoint, sampler = self._checkpoint, self._sampler
        known = renumber_classes(like, checkpoint.class_names) if like is not None else None
        labels = labels_in_shares_of(known, sampler.model.num_classes, self.num_samples)
        seeds = image_seeds(self.seed, self.num_samples)
        request = Request.of(self.num_samples, labels, self.guidance_scale, self.use_ema, seeds)
        name = f"{self.generated} by {sampler.plan.name} in {counted(sampler.plan.nfe, 'evaluation')}"
        if sampler.precision != "fp32":
            name += f" in {sampler.precision}"
        return SampledSource(sampler, request, checkpoint.class_names, name, self._background)

    @cached_property
    def _make_extractor(self) -> Callable[[Path | None], Extractor]:
        return choose_extractor(
            self.extractor or None,
            self.sources.training,
            weights=self.weights,
            device=self.device,
            show_progress=self.show_progress,
        )

    def _about(
        self, features: Features, reference: Features | Moments, extractor: Extractor
    ) -> dict[str, str]:
        generated, real, *_ = self.sources
        if isinstance(reference, Features):
            described = f"{real.name if real is not None else self.real}, {counted(len(reference), 'image')}"
        else:
            n = reference.count
            count = counted(n, "image") if n is not None else "an unknown number of images"
            described = f"{self.real}, statistics of {count}"
        channels, height, width = self._shape
        return {
            "generated": f"{generated.name}, {counted(len(generated), 'image')}",
            "real": described,
            "shape": f"{height} x {width} pixels, {'gray' if channels == 1 else 'in colour'}",
            "extractor": f"{extractor.name}, {features.dim:,} features",
            "snowmelt": __version__,
        }


def _is_model(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in MODEL_FILES)
    return path.suffix in SUFFIXES
