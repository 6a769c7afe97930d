"""A whole comparison, from checkpoints and methods to the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from snowmelt._version import __version__
from snowmelt.denoisers.guidance import Guidance, network_evaluations
from snowmelt.digest import content_digest
from snowmelt.errors import InputError
from snowmelt.evaluation.compare.cell import Cell, Result
from snowmelt.evaluation.compare.run import CommonImages, Judge, compare
from snowmelt.evaluation.compare.store import clear, kept_precision
from snowmelt.evaluation.compare.writing import write_comparison
from snowmelt.evaluation.features import Extractor, Features, is_statistics, open_reference
from snowmelt.evaluation.features.choose import choose_extractor
from snowmelt.evaluation.ladder import Ladder, build_ladder
from snowmelt.evaluation.metrics import check_metrics
from snowmelt.files import check_writable
from snowmelt.formats import ImageSource, open_images
from snowmelt.formats.classes import renumber_classes
from snowmelt.generation.labels import choose_images
from snowmelt.images import BACKGROUND
from snowmelt.models import Checkpoint
from snowmelt.plans import Method
from snowmelt.precision import AUTO
from snowmelt.report import check_report_libraries
from snowmelt.sampling import DiffusionSampler, Request
from snowmelt.text import counted

__all__ = ["Comparison"]

SHOWN = 10  # pictures of each cell in the matrix
CACHE = "cache"


class _Model(NamedTuple):
    sampler: DiffusionSampler
    class_names: Sequence[str] | None
    background: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A grid of checkpoints x methods x guidance scales, measured by one set of real images.

    Attributes:
        checkpoints: files or folders of models that make images of one shape and the same classes.
        methods: the ways to sample; None is the model's own. Those that differ in steps only make a line in
            the plots.
        guidance_scales: as in `DiffusionSampler.sample`.
        real: images to measure by, as for `open_images`, or a file of their statistics. Transparent pixels
            lie on the background that the first checkpoint was trained with.
        metrics: the most important one first.
        output: the folder of the report.
        guidance: how the scales guide; None takes the checkpoint's own guidance.
        threshold: as for `DiffusionSampler`; ``"auto"`` takes the checkpoint's own.
        num_samples: the number of images in each cell.
        class_selection: the classes to sample; None takes all.
        use_ema: sample with averaged weights.
        batch_size: the number of images made together; ``"auto"`` takes what fits into memory.
        train: labelled images that the extractor ``classifier`` learns; None takes those of `real`.
        extractor, weights: as in `choose_extractor`.
        per_class: measure each class by itself too.
        seed: image i of every cell begins with the same noise, which follows from it.
        device: where to sample and to compute.
        precision: of the networks that sample, as for `DiffusionSampler`. ``"auto"`` takes that of the cells
            that are finished, or tries the first checkpoint: all cells have one, or their times say nothing.
        title: of the report.
        show_progress: show bars.
    """

    checkpoints: Sequence[str]
    methods: Sequence[Method | None]
    guidance_scales: Sequence[float]
    real: str
    metrics: Sequence[str]
    output: str | Path
    guidance: Guidance | Mapping[str, Any] | None = None
    threshold: str | None = "auto"
    num_samples: int = 1000
    class_selection: Sequence[int] | None = None
    use_ema: bool = True
    batch_size: int | Literal["auto"] = "auto"
    train: str | None = None
    extractor: str | None = None
    weights: str | None = None
    per_class: bool = False
    seed: int = 0
    device: str | torch.device = "cpu"
    precision: str = "fp32"
    title: str = "Comparison"
    show_progress: bool = False

    def check(self) -> None:
        """Check everything that can fail, and keep what was read.

        Raises:
            InputError, ValueError: a checkpoint, a method or the images cannot be used; the message says why.
        """
        check_report_libraries("a comparison's report")
        check_metrics(self.metrics)
        check_writable(self.output)
        _ = self.cells, self._make_extractor

    def run(self, *, overwrite: bool = False) -> tuple[list[Result], Path]:
        """Make and measure the cells that are not finished; return all results and the path of the report.

        Args:
            overwrite: forget the finished cells.
        """
        self.check()
        folder = Path(self.output)
        if overwrite:
            clear(folder)
        images, judge = self._images, self._judge()
        results = compare(
            self.cells,
            lambda path: self._load(path).sampler,
            images,
            judge,
            folder,
            show_progress=self.show_progress,
        )
        report = write_comparison(
            results,
            self.metrics,
            folder,
            ladder=self._ladder(judge),
            title=f"{self.title}: {counted(len(self.cells), 'way')} to sample",
            facts=self._facts(judge),
            column_names=_column_names(images),
        )
        return results, report

    @cached_property
    def cells(self) -> list[Cell]:
        """The grid, equal cells once: those of one series, which differ in steps only, follow each other."""
        cells = list({content_digest(cell.identity): cell for cell in self._all_cells()}.values())
        series = list(dict.fromkeys(cell.series for cell in cells))
        return sorted(cells, key=lambda cell: series.index(cell.series))

    @cached_property
    def _load(self) -> Callable[[str], _Model]:
        return lru_cache(maxsize=1)(self._read)  # models may be large: one at a time

    @cached_property
    def _precision(self) -> str:
        if self.precision != AUTO:
            return self.precision
        return kept_precision(Path(self.output)) or self._read(self.checkpoints[0], AUTO).sampler.precision

    def _read(self, path: str, precision: str | None = None) -> _Model:
        checkpoint = Checkpoint.read(path)
        sampler = DiffusionSampler.from_pretrained(
            checkpoint,
            self.device,
            precision=precision or self._precision,
            use_ema=self.use_ema,
            guidance=self.guidance or checkpoint.guidance,
            threshold=checkpoint.threshold if self.threshold == "auto" else self.threshold,
        )
        return _Model(sampler, checkpoint.class_names, checkpoint.background or BACKGROUND)

    @cached_property
    def _images(self) -> CommonImages:
        model = self._load(self.checkpoints[0])
        labels, seeds, names = choose_images(
            model.sampler.model.num_classes,
            self.num_samples,
            base_seed=self.seed,
            class_selection=self.class_selection,
            class_names=model.class_names,
        )
        request = Request.of(len(seeds), labels, use_ema=self.use_ema, seeds=seeds)
        shown = min(SHOWN, self.num_samples)
        places = [place * self.num_samples // shown for place in range(shown)]
        return CommonImages(request, names, self.batch_size, places, model.background)

    def _all_cells(self) -> Iterator[Cell]:
        first = self._load(self.checkpoints[0]).sampler.model
        for path in self.checkpoints:
            base = self._load(path).sampler
            for what in ("image_shape", "num_classes"):
                if (here := getattr(first, what)) != (there := getattr(base.model, what)):
                    raise InputError(
                        f"{self.checkpoints[0]} has {what} {here}, but {path} has {there}: compare models of "
                        "the same images"
                    )
            for sampler, scale in product([_with(base, each) for each in self.methods], self.guidance_scales):
                request = replace(self._images.request, guidance_scale=scale)
                sampler.check(request)
                evaluations = network_evaluations(sampler.plan, sampler.guidance, scale)
                yield Cell(path, sampler.method, scale, evaluations, sampler.identity(request))

    @cached_property
    def _sources(self) -> tuple[ImageSource | Path, ImageSource | None]:
        """The real images, or the file of their statistics; and the images that a classifier learns."""
        sampler, names, background = self._load(self.checkpoints[0])
        channels, *size = sampler.model.image_shape
        opened = {
            path: renumber_classes(
                open_images(path, image_size=size, channels=min(channels, 3), background=background), names
            )
            for path in {self.real, self.train or self.real}
            if not is_statistics(path)
        }
        return opened.get(self.real, Path(self.real)), opened.get(self.train or self.real)

    @cached_property
    def _make_extractor(self) -> Callable[[str | Path | None], Extractor]:
        return choose_extractor(
            self.extractor,
            self._sources[1],
            weights=self.weights,
            device=self.device,
            show_progress=self.show_progress,
        )

    def _judge(self) -> Judge:
        cache = Path(self.output) / CACHE
        extractor = self._make_extractor(cache)

        real = open_reference(self._sources[0], extractor, cache=cache, show_progress=self.show_progress)
        return Judge(extractor, real, self.metrics, self.per_class)

    def _ladder(self, judge: Judge) -> Ladder | None:
        source = self._sources[0]
        if not isinstance(source, ImageSource) or not isinstance(judge.real, Features):
            return None
        return build_ladder(
            source,
            judge.real,
            judge.extractor,
            metrics=self.metrics,
            cache=Path(self.output) / CACHE,
            show_progress=self.show_progress,
        )

    def _facts(self, judge: Judge) -> dict[str, str]:
        count = len(judge.real) if isinstance(judge.real, Features) else judge.real.count
        return {
            "checkpoints": ", ".join(self.checkpoints),
            "images": f"{self.num_samples:,} in each cell, from seed {self.seed}",
            "weights": "averaged (EMA), where there are any" if self.use_ema else "not averaged",
            "measured by": f"{self.real}, {counted(count, 'image')}" if count is not None else self.real,
            "extractor": judge.extractor.name,
            "device": str(self.device),
            "precision": self._precision,
            "snowmelt": __version__,
        }


def _with(base: DiffusionSampler, method: Method | None) -> DiffusionSampler:
    if method is None:
        return base
    try:
        return base.with_method(method)
    except (TypeError, ValueError) as error:  # such as an option of the wrong type
        raise InputError(f"{method}: {error}") from error


def _column_names(images: CommonImages) -> list[str]:
    """Return a name for each picture: the class, or the number of the image if there are no classes."""
    labels, names = images.request.class_labels, images.class_names
    if labels is None:
        return [str(index) for index in images.shown]
    return [names[labels[index]] if names is not None else str(labels[index]) for index in images.shown]
