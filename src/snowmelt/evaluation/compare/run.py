"""Running the grid: make the images of each cell, time them, measure them, keep the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from snowmelt.digest import content_digest
from snowmelt.evaluation.answers.scores import Scores, evaluate
from snowmelt.evaluation.compare.cell import Cell, CellImages, Result
from snowmelt.evaluation.compare.store import read_images, read_scores, write_images, write_scores
from snowmelt.evaluation.features import Extractor, Features, Moments
from snowmelt.evaluation.features.extract import features_of_batches, with_probabilities
from snowmelt.evaluation.sampled import SampledSource
from snowmelt.images import BACKGROUND
from snowmelt.json_files import Json
from snowmelt.progress import progress
from snowmelt.sampling import DiffusionSampler, Request

__all__ = ["CommonImages", "Judge", "compare"]


@dataclass(frozen=True)
class CommonImages:
    """The images that every cell makes.

    Attributes:
        request: seeds and labels; each cell has its own guidance scale.
        class_names: names of the classes 0, 1, ..., or None.
        batch_size: the number of images made together; ``"auto"`` takes what fits into memory.
        shown: indices of the images that are kept as pictures.
        background: the colour behind transparent pixels.
    """

    request: Request
    class_names: Sequence[str] | None = None
    batch_size: int | Literal["auto"] = "auto"
    shown: Sequence[int] = (0,)
    background: str = BACKGROUND


@dataclass(frozen=True)
class Judge:
    """What measures a cell's images.

    Attributes:
        extractor: of their features.
        real: features of real images, or their statistics, of the same extractor.
        metrics: names in `snowmelt.evaluation.METRICS`, the most important one first.
        per_class: measure each class by itself too.
    """

    extractor: Extractor
    real: Features | Moments
    metrics: Sequence[str]
    per_class: bool = False

    def identity(self) -> Json:
        """Return all that decides the metrics of given features, as JSON can hold it."""
        if isinstance(self.real, Features):
            real = content_digest(self.real.values, self.real.labels)
        else:
            real = content_digest(self.real.mean.tolist(), self.real.covariance.tolist())
        return {
            "extractor": self.extractor.name,
            "real": real,
            "metrics": list(self.metrics),
            "per_class": self.per_class,
        }


def compare(
    cells: Sequence[Cell],
    load: Callable[[str], DiffusionSampler],
    images: CommonImages,
    judge: Judge,
    folder: str | Path,
    *,
    show_progress: bool = False,
) -> list[Result]:
    """Make and measure the images of every cell that is not finished, and return all results.

    A cell that was finished earlier is read from the folder, unless something that decides it has changed.

    Args:
        cells: the grid. Cells of one checkpoint should follow each other.
        load: returns the sampler of a checkpoint, whose method is replaced; called for unfinished cells only.
        images: the same for all cells.
        judge: the same for all cells.
        folder: where finished cells are kept.
        show_progress: show a bar over the network's evaluations.
    """
    folder, extractor = Path(folder), judge.extractor
    pending = [cell for cell in cells if read_images(folder, cell, extractor.name) is None]
    with progress(
        None,
        "Comparing",
        show=show_progress and bool(pending),
        total=sum(cell.evaluations for cell in pending) * len(images.request),
        unit="evaluation",
        unit_scale=True,
    ) as bar:
        for number, cell in enumerate(pending, 1):
            bar.set_postfix_str(f"cell {number} of {len(pending)}", refresh=False)
            sampler = load(cell.checkpoint).with_method(cell.method)
            write_images(folder, cell, extractor.name, _sample(cell, sampler, images, extractor, bar.update))
    measured_by = judge.identity()
    measuring = progress(cells, "Measuring", show=show_progress, unit="cell", leave=False)
    return [_measured(cell, images, judge, measured_by, folder) for cell in measuring]


class _Timed:
    """Batches, with the seconds that making them takes; what the reader does in between does not count."""

    def __init__(self, batches: Iterator[Tensor]) -> None:
        self.batches, self.seconds = batches, 0.0

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            began = time.perf_counter()
            batch = next(self.batches, None)
            self.seconds += time.perf_counter() - began
            if batch is None:
                return
            yield batch


def _sample(
    cell: Cell,
    sampler: DiffusionSampler,
    images: CommonImages,
    extractor: Extractor,
    evaluated: Callable[[int], object],
) -> CellImages:
    request = replace(images.request, guidance_scale=cell.guidance_scale)
    source = SampledSource(sampler, request, background=images.background)
    pictures = source.take(images.shown)  # first, so that the network's first call is not timed
    size = sampler.auto_batch_size() if images.batch_size == "auto" else images.batch_size
    timed = _Timed(source.batches(min(size, len(source))))
    features = features_of_batches(timed, extractor, lambda count: evaluated(count * cell.evaluations))
    return CellImages(features, timed.seconds, pictures)


def _measured(
    cell: Cell, images: CommonImages, judge: Judge, measured_by: Mapping[str, Any], folder: Path
) -> Result:
    found = read_images(folder, cell, judge.extractor.name)
    if found is None:
        raise RuntimeError(f"a cell of {folder} has vanished while it was measured: run it again")
    scores = read_scores(folder, cell, measured_by)
    if scores is None:
        scores = _scores(found, images, judge)
        write_scores(folder, cell, measured_by, scores)
    return Result(cell, len(images.request), found.seconds, scores, found.pictures)


def _scores(found: CellImages, images: CommonImages, judge: Judge) -> Scores:
    names = list(images.class_names) if images.class_names is not None else None
    features = Features(found.features, images.request.labels, class_names=names)
    features = with_probabilities(judge.extractor, features)
    return evaluate(features, judge.real, metrics=judge.metrics, per_class=judge.per_class)
