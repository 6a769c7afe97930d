"""Metrics of what a model generates while it is trained."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from snowmelt.errors import InputError
from snowmelt.evaluation.answers.scores import evaluate
from snowmelt.evaluation.features import (
    Extractor,
    Features,
    Moments,
    extract_features,
    open_reference,
)
from snowmelt.evaluation.features.choose import choose_extractor
from snowmelt.evaluation.ladder import build_ladder
from snowmelt.evaluation.ladder.ladder import MOST
from snowmelt.evaluation.matching import labels_in_shares_of
from snowmelt.evaluation.sampled import SampledSource
from snowmelt.evaluation.uncertainty import SEED
from snowmelt.formats import ImageSource, TensorSource
from snowmelt.sampling import DiffusionSampler, Request, image_seeds
from snowmelt.text import listed

__all__ = ["TrainingMetrics"]

SAMPLED_TOGETHER = 256


class TrainingMetrics:
    """A function of a trainer's sampler that returns metrics of the images that it makes.

    All calls use the same seeds. The images are compared with the training images, without augmentation.
    What does not change (extractor, reference) is made in the first call; what can fail is checked before.

    Args:
        real: the training images.
        metrics: keys of `METRICS`.
        watch: the metric that will choose the best model, or None. It is checked on a `Ladder` at once.
        num_samples: the number of images to make.
        seed: of these images.
        guidance_scale: as in `DiffusionSampler.sample`.
        extractor: as in `choose_extractor`.
        device: where to compute features.
        cache: a folder that keeps features and the classifier.

    Raises:
        InputError: the images cannot be read, the extractor cannot be made, or the watched metric is blind:
            it does not see that spoilt training images are worse.
    """

    def __init__(
        self,
        real: ImageSource,
        metrics: Sequence[str],
        *,
        watch: str | None = None,
        num_samples: int = 1000,
        seed: int = 0,
        guidance_scale: float = 0.0,
        extractor: str | None = None,
        device: str | torch.device = "cpu",
        cache: Path | None = None,
    ) -> None:
        self.real, self.metrics, self.guidance_scale = real, list(metrics), guidance_scale
        self.seeds = image_seeds(seed, num_samples)
        self.cache = cache
        self._make_extractor = choose_extractor(extractor, real, device=device, show_progress=True)
        if watch is not None:
            self._check_sight(watch)

    @cached_property
    def extractor(self) -> Extractor:
        """What turns images into features."""
        return self._make_extractor(self.cache)

    @cached_property
    def reference(self) -> Features | Moments:
        """The features of the training images."""
        return open_reference(self.real, self.extractor, cache=self.cache, show_progress=True)

    def __call__(self, sampler: DiffusionSampler) -> dict[str, float]:
        """Return the metrics by name. Warns about those that cannot be computed."""
        labels = labels_in_shares_of(self.real, sampler.model.num_classes, len(self.seeds))
        request = Request.of(len(self.seeds), labels, self.guidance_scale, seeds=self.seeds)
        features = extract_features(
            SampledSource(sampler, request), self.extractor, batch_size=SAMPLED_TOGETHER, show_progress=True
        )
        found = evaluate(features, self.reference, metrics=self.metrics, per_class=False)
        if found.omitted:
            warnings.warn(f"evaluation while training: {'; '.join(found.omitted)}", stacklevel=2)
        return {name: each.value for name, each in found.overall.items()}

    def _check_sight(self, metric: str) -> None:
        rows = torch.randperm(len(self.real), generator=torch.Generator().manual_seed(SEED))[: 2 * MOST]
        labels = self.real.labels[rows] if self.real.labels is not None else None
        some = TensorSource(self.real.take(rows.tolist()), labels, name=f"{len(rows):,} of {self.real.name}")
        features = extract_features(some, self.extractor, cache=self.cache, show_progress=True)
        ladder = build_ladder(
            some, features, self.extractor, metrics=[metric], cache=self.cache, show_progress=True
        )
        if ladder is not None and (unseen := ladder.blind(metric)):
            seeing = [name for name in ("kid", "c2st") if name != metric]
            raise InputError(
                f"{metric} cannot choose the best model: with these images it does not see {listed(unseen)}. "
                f"Watch {' or '.join(seeing)}, or the loss"
            )
