"""What `snowmelt evaluate` needs, and evaluation while training: images, an extractor, a report."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from snowmelt._version import __version__
from snowmelt.build.editing import Words, load_sampler
from snowmelt.build.generation import class_names
from snowmelt.config import Config
from snowmelt.device import resolve_device
from snowmelt.errors import InputError
from snowmelt.evaluation import (
    Evaluation,
    Extractor,
    Features,
    ImageSource,
    Moments,
    SampledSource,
    evaluate,
    extract_features,
    make_extractor,
    open_images,
    open_reference,
    renumber_classes,
)
from snowmelt.evaluation.drawing import draw_evaluation, draw_side_by_side
from snowmelt.evaluation.features.pixels import pixels
from snowmelt.evaluation.kept import kept
from snowmelt.evaluation.metrics import METRICS
from snowmelt.evaluation.novelty import Novelty, closest_pairs_picture, novelty
from snowmelt.evaluation.report import (
    Picture,
    Section,
    evaluation_section,
    novelty_section,
    usefulness_section,
    write_html_report,
)
from snowmelt.evaluation.selection import SELECTIONS, Selection, select, write_selection
from snowmelt.evaluation.usefulness import Usefulness
from snowmelt.files import atomic_write
from snowmelt.generation.labels import balanced_labels
from snowmelt.sampling import DiffusionSampler, image_seeds

__all__ = [
    "Looking",
    "Report",
    "Sampled",
    "choose_extractor",
    "default_cache",
    "judge",
    "look_for_copies",
    "metric_names",
    "open_generated",
    "selected",
    "selection_rule",
    "training_evaluation",
    "write_report",
]

CHECKPOINTS = frozenset({".pth", ".pt", ".ckpt", ".safetensors"})
SAMPLED_TOGETHER = 256
SMALL_SIDE = 64  # pixels up to which a small classifier is the extractor of choice


class Sampled(NamedTuple):
    """How images are made from a checkpoint.

    Attributes:
        num_samples: how many.
        words: the method.
        guidance_scale, use_ema: as in `DiffusionSampler.sample`.
        seed: each image gets its own from it.
        device: where to sample.
    """

    num_samples: int
    words: Words
    guidance_scale: float
    seed: int
    use_ema: bool
    device: str


class Looking(NamedTuple):
    """How features are made.

    Attributes:
        extractor: of the features.
        batch_size: images a call.
        cache: folder that keeps them, or None.
        show_progress: show bars.
    """

    extractor: Extractor
    batch_size: int
    cache: Path | None
    show_progress: bool

    def at(self, source: ImageSource) -> Features:
        """Return a source's features."""
        return extract_features(source, **self._asdict())


@dataclass(frozen=True)
class Report:
    """All that was found out about a set of generated images.

    Attributes:
        about: what was compared with what.
        evaluation: is it good.
        novelty: is it new, by the name of the space in which nearness is meant.
        usefulness: is it useful.
        selection: the images that were kept.
    """

    about: dict[str, str]
    evaluation: Evaluation
    novelty: dict[str, Novelty] | None = None
    usefulness: Usefulness | None = None
    selection: Selection | None = None

    def __str__(self) -> str:
        """Return it for people."""
        width = max(map(len, self.about))
        parts = ["\n".join(f"{name:{width}}  {text}" for name, text in self.about.items())]
        parts.append(str(self.evaluation))
        for space, found in (self.novelty or {}).items():
            parts.append(
                f"In the space of {space}, {found.copy_rate.value:.1%} of the generated images are copies of "
                f"training images\n({found.copy_rate.low:.1%} to {found.copy_rate.high:.1%}), against "
                f"{found.held_out_rate.value:.1%} of real images that were held out; "
                f"{found.duplicate_rate.value:.1%} are\nduplicates of each other."
            )
        if self.usefulness is not None:
            parts.append(f"Does augmentation help the rarest class? {self.usefulness.answer()}")
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON knows."""
        found: dict[str, Any] = {**self.about, **self.evaluation.to_dict()}
        if self.novelty is not None:
            found["novelty"] = {space: each.to_dict() for space, each in self.novelty.items()}
        if self.usefulness is not None:
            found["usefulness"] = self.usefulness.to_dict()
        if self.selection is not None:
            found["selection"] = self.selection.to_dict()
        return found


def default_cache() -> Path:
    """Return the folder of the user's caches that features and classifiers are kept in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snowmelt"


def metric_names(text: str | None) -> list[str] | None:
    """Return the metrics in ``"fid,kid"``; None stays None, for all of them.

    Raises:
        InputError: there is no such metric.

    >>> metric_names("fid,recall")
    ['fid', 'recall']
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in METRICS]:
        raise InputError(f"--metrics are some of {','.join(METRICS)}; got {','.join(unknown)}")
    return names


def open_generated(
    path: Path,
    real: ImageSource | None,
    sampled: Sampled,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    cache: Path | None = None,
    show_progress: bool = False,
) -> ImageSource:
    """Return the images to judge: those in a file or folder, or those that a checkpoint makes.

    Of a checkpoint, classes come in the shares that they have among the real images, or else in equal ones.

    Args:
        path: as for `open_images`, or a checkpoint.
        real: what they are compared with; its class names number the classes.
        sampled: for a checkpoint.
        image_size, channels: as for `open_images`; of a checkpoint they are the model's.
        cache: a folder that keeps what a checkpoint has made.
        show_progress: show a bar while it makes them.

    Raises:
        InputError: there are no images, or no model.
    """
    if path.is_dir() or path.suffix not in CHECKPOINTS:
        source = open_images(path, image_size=image_size, channels=channels)
    else:
        made = _from_checkpoint(path, real, sampled)
        source = kept(made, cache, batch_size=SAMPLED_TOGETHER, show_progress=show_progress)
    return renumber_classes(source, real.class_names if real is not None else None)


def choose_extractor(
    name: str | None,
    training: ImageSource | None,
    *,
    weights: Path | None = None,
    cache: Path | None = None,
    device: str | torch.device = "cpu",
    show_progress: bool = False,
) -> Extractor:
    """Return an extractor by name.

    Args:
        name: as for `make_extractor`; None takes ``classifier`` for labelled images of up to 64 pixels a side
            and ``inception`` for others.
        training: images that a classifier is trained on; None if only statistics are known.
        weights: a file, for ``inception`` and timm.
        cache: a folder that keeps the classifier.
        device: where to compute.
        show_progress: show a bar.

    Raises:
        InputError: there is no such extractor, or it cannot be had; the message says what to do.
    """
    name = name if name is not None else _usual_extractor(training)
    if name == "classifier":
        if training is None:
            raise InputError(
                "the extractor classifier needs images to train on, not their statistics: give --train"
            )
        return make_extractor(name, source=training, cache=cache, device=device, show_progress=show_progress)
    options: dict[str, Any] = {"weights": weights} if weights is not None else {}
    if name != "pixels" and Path(name).suffix.lower() != ".onnx":
        options["device"] = device
    try:
        return make_extractor(name, **options)
    except TypeError as error:
        raise InputError(f"the extractor {name} takes no --weights: leave it out") from error


def judge(
    generated: ImageSource,
    real: ImageSource | Path,
    looking: Looking,
    *,
    metrics: Sequence[str] | None = None,
    per_class: bool = True,
) -> Report:
    """Answer whether the generated images are good.

    Args:
        generated: to judge.
        real: to compare with: images, or a file of their statistics.
        looking: how features are made.
        metrics, per_class: as for `evaluate`.

    Raises:
        InputError: images cannot be read.
        ValueError: the two do not go together.
    """
    features = looking.at(generated)
    reference = open_reference(real, **looking._asdict())
    evaluation = evaluate(
        features, reference, metrics=metrics, per_class=per_class, show_progress=looking.show_progress
    )
    about = {
        "generated": f"{generated.name}, {len(generated):,} images",
        "real": _described(real, reference),
        "extractor": f"{looking.extractor.name}, {features.values.shape[1]:,} features",
        "snowmelt": __version__,
    }
    return Report(about, evaluation)


def look_for_copies(
    generated: ImageSource, training: ImageSource, held_out: ImageSource, looking: Looking
) -> dict[str, Novelty]:
    """Answer whether the generated images are new, in the space of features and in that of pixels."""
    spaces = {"features": looking, "pixels": looking._replace(extractor=pixels())}
    return {
        space: novelty(look.at(generated), look.at(training), look.at(held_out))
        for space, look in spaces.items()
    }


def selection_rule(text: str | None) -> tuple[str, float] | None:
    """Return the mode and the number in ``"top_k=500"``; None stays None.

    Raises:
        InputError: there is no such mode, or no number.

    >>> selection_rule("percentile=80")
    ('percentile', 80.0)
    """
    if text is None:
        return None
    mode, _, value = text.partition("=")
    try:
        if mode in SELECTIONS:
            return mode, float(value)
    except ValueError:
        pass
    raise InputError(f"--select takes {', '.join(f'{mode}=NUMBER' for mode in SELECTIONS)}; got {text!r}")


def selected(
    generated: ImageSource,
    real: ImageSource,
    looking: Looking,
    rule: tuple[str, float],
    *,
    per_class: bool,
    folder: Path,
) -> Selection:
    """Write the generated images that are nearest to the real ones into a new folder; return which."""
    per_class = per_class and generated.labels is not None and real.labels is not None
    chosen = select(looking.at(generated), looking.at(real), *rule, per_class=per_class)
    write_selection(chosen, generated, folder)
    return chosen


def write_report(
    report: Report,
    generated: ImageSource,
    real: ImageSource | None,
    training: ImageSource | None,
    folder: Path,
) -> None:
    """Write ``metrics.json``, the pictures, and ``report.html`` with all of it.

    Args:
        report: of these images.
        generated, real, training: None where the images are not known.
        folder: the files in it are replaced.
    """
    pictures = {}
    if report.evaluation.overall:
        draw_evaluation(report.evaluation, folder / "metrics.png")
        pictures["metrics.png"] = "Every metric: a band for all images, a point for each class."
    if real is not None and _alike(generated, real):
        draw_side_by_side(generated, real, folder / "side_by_side.png")
        pictures["side_by_side.png"] = "Generated images to the left, real ones to the right."
    good = evaluation_section(report.evaluation)
    shown = [Picture((folder / name).read_bytes(), text, text) for name, text in pictures.items()]
    sections = [Section(good.title, [*shown, *good.blocks])]
    if report.novelty is not None and training is not None:
        path = folder / "closest_pairs.png"
        closest_pairs_picture(report.novelty["pixels"], generated, training, path)
        sections.append(novelty_section(report.novelty, path.read_bytes()))
    if report.usefulness is not None:
        sections.append(usefulness_section(report.usefulness))
    write_html_report(folder / "report.html", "Evaluation", sections, report.about)
    with atomic_write(folder / "metrics.json", "w") as file:
        json.dump(report.to_dict(), file, indent=1)
        file.write("\n")


def _alike(generated: ImageSource, real: ImageSource) -> bool:
    """Return whether images of the two have one shape."""
    return next(generated.batches(1)).shape == next(real.batches(1)).shape


def training_evaluation(config: Config) -> Callable[[DiffusionSampler], dict[str, float]]:
    """Return the function that a trainer calls for metrics of what its model generates.

    The images are compared with the training images, as they are without augmentation, and come from the same
    seeds each time. What does not change (classifier, reference) is made now.

    Raises:
        InputError: the images cannot be read, or the extractor cannot be had.
    """
    options, shape = config.training.evaluation, config.model.architecture
    real = open_images(config.data.paths.train or "", image_size=shape.image_size, channels=shape.in_channels)
    device = resolve_device(config.compute.device)
    cache = default_cache()
    extractor = choose_extractor(options.extractor, real, cache=cache, device=device, show_progress=True)
    reference = open_reference(real, extractor, cache=cache, show_progress=True)
    seeds = image_seeds(config.compute.seed, options.num_samples)

    def measure(sampler: DiffusionSampler) -> dict[str, float]:
        num_classes = sampler.model.num_classes
        labels = _shared_labels(real, num_classes, len(seeds)) if num_classes is not None else None
        made = SampledSource(sampler, seeds, labels, guidance_scale=options.guidance_scale)
        features = extract_features(made, extractor, batch_size=SAMPLED_TOGETHER, show_progress=True)
        found = evaluate(features, reference, metrics=options.metrics, per_class=False)
        if found.omitted:
            warnings.warn(f"evaluation while training: {'; '.join(found.omitted)}", stacklevel=2)
        return {name: figure.value for name, figure in found.overall.items()}

    return measure


def _described(real: ImageSource | Path, reference: Features | Moments) -> str:
    if isinstance(reference, Moments):
        count = f"{reference.count:,}" if reference.count is not None else "an unknown number of"
        return f"{real}, statistics of {count} images"
    assert not isinstance(real, Path)  # a file without images is one of statistics
    return f"{real.name}, {len(reference):,} images"


def _usual_extractor(training: ImageSource | None) -> str:
    if training is None or training.labels is None or len(training.labels.unique()) < 2:
        return "inception"
    return "classifier" if max(next(training.batches(1)).shape[2:]) <= SMALL_SIDE else "inception"


def _from_checkpoint(path: Path, real: ImageSource | None, sampled: Sampled) -> SampledSource:
    sampler = load_sampler(path, sampled.words, device=sampled.device, use_ema=sampled.use_ema)
    names = class_names(path)
    labels = None
    if (num_classes := sampler.model.num_classes) is not None:
        known = renumber_classes(real, names) if real is not None else None
        labels = _shared_labels(known, num_classes, sampled.num_samples)
    return SampledSource(
        sampler,
        image_seeds(sampled.seed, sampled.num_samples),
        labels,
        guidance_scale=sampled.guidance_scale,
        use_ema=sampled.use_ema,
        class_names=names,
        name=f"{path} by {sampler.plan.name} in {sampler.plan.nfe} evaluations",
    )


def _shared_labels(real: ImageSource | None, num_classes: int, num_samples: int) -> list[int]:
    """Return labels in the shares that they have among the real images, class by class."""
    known = real.labels if real is not None else None
    known = known[known < num_classes].sort().values if known is not None else torch.empty(0)
    if len(known) == 0:
        return balanced_labels(num_samples, num_classes)
    places = (torch.arange(num_samples) + 0.5) * len(known) / num_samples
    labels: list[int] = known[places.long()].tolist()
    return labels
