"""Running the grid: make the images of each cell, time them, measure them, keep what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt.evaluation.compare.cell import Cell, Result, Sampled
from snowmelt.evaluation.compare.store import (
    read_evaluation,
    read_sampled,
    write_evaluation,
    write_sampled,
)
from snowmelt.evaluation.evaluate import evaluate
from snowmelt.evaluation.features import Extractor, extract
from snowmelt.evaluation.hashing import tensors_hash
from snowmelt.evaluation.metrics import Features, Moments
from snowmelt.evaluation.sources import SampledSource
from snowmelt.formats import ImageSource
from snowmelt.progress import progress
from snowmelt.sampling import DiffusionSampler

__all__ = ["Judge", "WantedImages", "compare"]


@dataclass(frozen=True)
class WantedImages:
    """Which images every cell makes.

    Attributes:
        seeds: one an image.
        labels: one an image, or None for an unconditional model.
        class_names: of the labels' classes, or None.
        use_ema: sample with averaged weights.
        batch_size: images made together; None takes what fits into memory.
        shown: indices of the images that are kept as pictures.
    """

    seeds: Sequence[int]
    labels: Sequence[int] | None
    class_names: Sequence[str] | None
    use_ema: bool
    batch_size: int | None
    shown: Sequence[int]


@dataclass(frozen=True)
class Judge:
    """What judges a cell's images.

    Attributes:
        extractor: of their features.
        real: features of real images, or their statistics, of the same extractor.
        metrics: names in `snowmelt.evaluation.METRICS`, the one that matters most first.
        per_class: measure each class by itself too.
    """

    extractor: Extractor
    real: Features | Moments
    metrics: Sequence[str]
    per_class: bool = False

    def identity(self) -> dict[str, Any]:
        """Return what decides the figures of given features, as JSON can hold it."""
        if isinstance(self.real, Features):
            tensors = {"values": self.real.values}
            if self.real.labels is not None:
                tensors["labels"] = self.real.labels
        else:
            tensors = {
                "mean": torch.from_numpy(self.real.mean),
                "covariance": torch.from_numpy(self.real.covariance),
            }
        return {
            "extractor": self.extractor.name,
            "real": tensors_hash(tensors),
            "metrics": list(self.metrics),
            "per_class": self.per_class,
        }


def compare(
    cells: Sequence[Cell],
    make_sampler: Callable[[Cell], DiffusionSampler],
    images: WantedImages,
    judge: Judge,
    folder: str | Path,
    *,
    show_progress: bool = False,
) -> list[Result]:
    """Make and measure the images of every cell that is not finished, and return all results.

    A cell that was finished earlier is read from the folder, if nothing that decides it has changed.

    Args:
        cells: the grid; those of one checkpoint together, if models are large.
        make_sampler: returns what samples a cell; called for cells that are not finished only.
        images: the same for all.
        judge: the same for all.
        folder: where finished cells are kept.
        show_progress: show a bar over the network's evaluations.
    """
    folder = Path(folder)
    pending = [cell for cell in cells if read_sampled(folder, cell, judge.extractor.name) is None]
    work = sum(cell.evaluations for cell in pending) * len(images.seeds)
    with progress(
        None,
        "Comparing",
        show=show_progress and bool(pending),
        total=work,
        unit="evaluation",
        unit_scale=True,
    ) as bar:
        for number, cell in enumerate(pending, 1):
            bar.set_postfix_str(f"cell {number} of {len(pending)}", refresh=False)
            done = _sample(cell, make_sampler(cell), images, judge.extractor, bar.update)
            write_sampled(folder, cell, judge.extractor.name, done)
    measured_by = judge.identity()
    measuring = progress(cells, "Measuring", show=show_progress, unit="cell", leave=False)
    return [_measured(cell, images, judge, measured_by, folder) for cell in measuring]


class _Watched(ImageSource):
    """A source that is read once, with a clock on the making of its images and an eye on some of them."""

    def __init__(self, source: ImageSource, shown: Sequence[int], made: Callable[[int], object]) -> None:
        super().__init__(source.name, len(source), source.labels, source.class_names)
        self.source, self.shown, self.made = source, shown, made
        self.seconds = 0.0
        self.pictures: dict[int, Tensor] = {}

    def content_hash(self) -> str:
        return self.source.content_hash()

    def take(self, indices: Sequence[int]) -> Tensor:
        return self.source.take(indices)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        index, began = 0, time.perf_counter()
        for batch in self.source.batches(batch_size):
            self.seconds += time.perf_counter() - began
            here = [each for each in self.shown if index <= each < index + len(batch)]
            self.pictures |= {each: batch[each - index] for each in here}
            index += len(batch)
            self.made(len(batch))
            yield batch
            began = time.perf_counter()


def _sample(
    cell: Cell,
    sampler: DiffusionSampler,
    images: WantedImages,
    extractor: Extractor,
    evaluated: Callable[[int], object],
) -> Sampled:
    source = SampledSource(
        sampler,
        images.seeds,
        images.labels,
        guidance_scale=cell.guidance_scale,
        use_ema=images.use_ema,
        class_names=images.class_names,
    )
    _warm_up(sampler, cell, images)
    batch_size = images.batch_size or min(sampler.auto_batch_size(), len(source))
    watched = _Watched(source, images.shown, lambda count: evaluated(count * cell.evaluations))
    features = extract(watched, extractor, batch_size=batch_size)
    pictures = torch.stack([watched.pictures[index] for index in images.shown])
    return Sampled(features, watched.seconds, pictures)


def _warm_up(sampler: DiffusionSampler, cell: Cell, images: WantedImages) -> None:
    """Call the network once: what the first call costs is not the plan's."""
    labels = images.labels[:1] if images.labels is not None else None
    first = sampler.trajectory(1, labels, cell.guidance_scale, images.use_ema, seeds=images.seeds[:1])
    with closing(first) as states:
        next(states)


def _measured(
    cell: Cell, images: WantedImages, judge: Judge, measured_by: Mapping[str, Any], folder: Path
) -> Result:
    sampled = read_sampled(folder, cell, judge.extractor.name)
    if sampled is None:
        raise RuntimeError(f"a cell of {folder} has vanished while it was measured: run it again")
    evaluation = read_evaluation(folder, cell, measured_by)
    if evaluation is None:
        classify = getattr(judge.extractor, "probabilities", None)
        features = Features(
            sampled.features,
            torch.tensor(images.labels) if images.labels is not None else None,
            classify(sampled.features) if classify is not None else None,
            list(images.class_names) if images.class_names is not None else None,
        )
        evaluation = evaluate(features, judge.real, metrics=judge.metrics, per_class=judge.per_class)
        write_evaluation(folder, cell, measured_by, evaluation)
    return Result(cell, len(images.seeds), sampled.seconds, evaluation, sampled.pictures)
