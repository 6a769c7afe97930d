"""Is it useful: what a classifier learns from generated images (classification accuracy score, Ravuri and
Vinyals 2019, "Classification accuracy score for conditional generative models").

The same small classifier is trained on real images, on generated ones, and on both together, in the same
number of steps. It is tested on real images that it has not seen. Trained on generated images, it shows how
well these represent the classes. Trained on both, it shows whether augmentation helps, and which class.

**Interval.** Accuracy varies with the seed of the training and with the test images. With c_si = 1 if the
classifier of seed s is right about image i, the variance of the mean over S seeds and N images is

    var_s(mean_i c_si) / S + var_i(mean_s c_si) / N

S is small, so the interval is that of Student's t with Satterthwaite's degrees of freedom. Gains are paired:
both classifiers have the same seeds and the same test images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snowmelt.errors import optional
from snowmelt.evaluation.features.small_classifier import SmallClassifier, default_steps, train_classifier
from snowmelt.evaluation.json_files import plain
from snowmelt.evaluation.matching import check_labelled, check_one_shape
from snowmelt.evaluation.report import INTERVALS, Chapter, Table
from snowmelt.evaluation.uncertainty import LEVEL, Estimate, Z, influence_std, proportion_interval
from snowmelt.formats import ImageSource
from snowmelt.progress import progress

__all__ = ["Accuracy", "Usefulness", "usefulness", "usefulness_chapter"]

ROWS = 1024  # images in a call
SETS = ("real", "generated", "both")


class _Labelled(NamedTuple):
    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Accuracy:
    """Shares of held-out images that are recognised, or differences of such shares.

    Attributes:
        overall: for all images.
        per_class: for the images of each class, by its name.
    """

    overall: Estimate
    per_class: dict[str, Estimate]


@dataclass(frozen=True)
class Usefulness:
    """What a classifier learns from generated images.

    Attributes:
        accuracy: trained on ``real``, on ``generated`` and on ``both``; ``generated`` is the classification
            accuracy score.
        gain: ``both`` minus ``real``, paired by seed and test image.
        real_images, generated_images: the number of training images by class.
        seeds: of the trainings.
        steps: of each training.
    """

    accuracy: dict[str, Accuracy]
    gain: Accuracy
    real_images: dict[str, int]
    generated_images: dict[str, int]
    seeds: list[int]
    steps: int

    @property
    def rarest(self) -> str:
        """The tested class with the fewest real images to train on."""
        return min(self.gain.per_class, key=lambda name: self.real_images[name])

    def answer(self, class_name: str | None = None) -> str:
        """Return in one sentence whether augmentation helps a class.

        Args:
            class_name: of the class; None takes the rarest.

        Raises:
            ValueError: no image of that class has been tested.
        """
        name = self.rarest if class_name is None else class_name
        if name not in self.gain.per_class:
            raise ValueError(f"class must be one of {', '.join(self.gain.per_class)}, got {name!r}")
        gain = self.gain.per_class[name]
        before, after = (self.accuracy[which].per_class[name].value for which in ("real", "both"))
        verdict = "Yes" if gain.low > 0 else "No" if gain.high < 0 else "Unclear"
        return (
            f"{verdict}: with {self.generated_images[name]:,} generated images beside its "
            f"{self.real_images[name]:,} real ones, class {name} is recognised in {100 * after:.1f} % of "
            f"held-out images instead of {100 * before:.1f} %: {100 * gain.value:+.1f} points (95 % interval "
            f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON knows."""
        return {**plain(self), "rarest": self.rarest, "answer": self.answer()}


def usefulness(
    generated: ImageSource,
    real: ImageSource,
    held_out: ImageSource,
    *,
    seeds: Sequence[int] = range(5),
    steps: int | None = None,
    device: str | torch.device = "cpu",
    show_progress: bool = False,
) -> Usefulness:
    """Train classifiers on real, on generated and on all images, and compare them on held-out real ones.

    Args:
        generated, real: labelled images to train on, of one shape.
        held_out: labelled real images that neither the classifiers nor the generator have seen.
        seeds: of the trainings, two or more.
        steps: batches of 64 in each training; None takes five passes over the real and generated images
            together, and at least 300.
        device: where to train.
        show_progress: show a bar over the trainings.

    Raises:
        ValueError: labels are missing, the images differ in shape, there are fewer than two classes or fewer
            than two seeds.

    >>> from snowmelt.evaluation import open_images
    >>> digits = open_images("digits:test")
    >>> result = usefulness(digits, digits, digits, seeds=range(2), steps=5)
    >>> list(result.accuracy), result.real_images["3"]
    (['real', 'generated', 'both'], 37)
    """
    seeds = list(seeds)
    if not 2 <= len(set(seeds)) == len(seeds):
        raise ValueError(f"an interval needs two different seeds or more, got {seeds}")
    sources = (real, generated, held_out)
    check_labelled(sources)
    check_one_shape(sources)
    loaded = [_loaded(source) for source in sources]
    names = _class_names(sources, loaded)
    both = _Labelled(*(torch.cat(parts) for parts in zip(*loaded[:2], strict=True)))
    sets, test = dict(zip(SETS, (*loaded[:2], both), strict=True)), loaded[2]
    if steps is None:
        steps = default_steps(len(both.labels))

    right = {which: torch.empty(len(seeds), len(test.labels)) for which in SETS}
    trainings = [(row, which) for row in range(len(seeds)) for which in SETS]
    for row, which in progress(trainings, "Usefulness", show=show_progress, unit="training"):
        network = train_classifier(*sets[which], len(names), steps=steps, seed=seeds[row], device=device)
        right[which][row] = _recognised(network, test, device)
    counts = {which: _counts(sets[which], names) for which in SETS[:2]}
    trained_on = {"real": 0, "generated": len(generated), "both": len(generated)}
    accuracy = {which: _accuracy(right[which], test, names, _share, trained_on[which]) for which in SETS}
    gain = _accuracy(right["both"] - right["real"], test, names, _difference, len(generated))
    return Usefulness(accuracy, gain, counts["real"], counts["generated"], seeds, steps)


def usefulness_chapter(result: Usefulness) -> Chapter:
    """Return the chapter of a report."""
    columns = [*result.accuracy.values(), result.gain]
    images = [result.real_images, result.generated_images]
    totals = [f"{sum(each.values()):,}" for each in images]
    rows = [["all", *totals, *(_percent(each.overall) for each in columns)]]
    for name in result.gain.per_class:
        counts = [f"{each[name]:,}" for each in images]
        rows.append([name, *counts, *(_percent(each.per_class[name]) for each in columns)])
    caption = (
        "Percent of held-out real images that a classifier recognises, by its training images "
        f"({len(result.seeds)} trainings of {result.steps:,} steps each), {INTERVALS}"
    )
    header = ["class", "real images", "generated images", *result.accuracy, "gain: both - real"]
    rarest = 1 + list(result.gain.per_class).index(result.rarest)
    table = Table(caption, header, rows, [rarest])
    return Chapter("Is it useful", [f"Does augmentation help the rarest class? {result.answer()}", table])


def _percent(each: Estimate) -> str:
    return str(each.percent())


def _loaded(source: ImageSource) -> _Labelled:
    assert source.labels is not None  # checked
    return _Labelled(torch.cat(list(source.batches(ROWS))), source.labels)


def _class_names(sources: Sequence[ImageSource], loaded: Sequence[_Labelled]) -> list[str]:
    """Return a name for each class of any set: its number where it has no other name."""
    known = next((source.class_names for source in sources if source.class_names), [])
    highest = max(int(each.labels.max()) for each in loaded)
    return [
        known[label] if label < len(known) else str(label) for label in range(max(highest + 1, len(known)))
    ]


def _counts(images: _Labelled, names: Sequence[str]) -> dict[str, int]:
    return dict(zip(names, images.labels.bincount(minlength=len(names)).tolist(), strict=True))


def _recognised(network: SmallClassifier, test: _Labelled, device: str | torch.device) -> Tensor:
    """Return whether each test image is recognised, (N,) bool."""
    with torch.no_grad():
        found = [network(images.to(device)).argmax(dim=1).cpu() for images in test.images.split(ROWS)]
    return torch.cat(found) == test.labels


def _accuracy(
    right: Tensor,
    test: _Labelled,
    names: Sequence[str],
    make: Callable[[Tensor, int], Estimate],
    n_generated: int,
) -> Accuracy:
    """Return estimates from values (S, N), for all test images and for each class."""
    per_class = {
        name: make(right[:, test.labels == label], n_generated)
        for label, name in enumerate(names)
        if bool((test.labels == label).any())
    }
    return Accuracy(make(right, n_generated), per_class)


def _share(right: Tensor, n_generated: int) -> Estimate:
    """Return the estimate of a share, from values 0 and 1, (S, N)."""
    value, std, reach = _mean(right)
    interval = proportion_interval(value, std * reach / Z, right.shape[1])
    return _estimate(value, std, interval, right, n_generated)


def _difference(change: Tensor, n_generated: int) -> Estimate:
    """Return the estimate of a difference of shares, from values -1, 0 and 1, (S, N)."""
    value, std, reach = _mean(change)
    # If all agree, the number of images alone decides how small a difference would have been seen
    half = reach * std if std > 0 else proportion_interval(0.0, 0.0, change.shape[1])[1]
    interval = max(-1.0, value - half), min(1.0, value + half)
    return _estimate(value, std, interval, change, n_generated)


def _estimate(
    value: float, std: float, interval: tuple[float, float], values: Tensor, n_generated: int
) -> Estimate:
    trainings, tested = values.shape
    return Estimate(value, *interval, std, n_generated, tested, f"mean of {trainings} trainings")


def _mean(values: Tensor) -> tuple[float, float, float]:
    """Return the mean of values (S, N), its standard error, and how many of these half the interval spans."""
    student_t = optional("scipy.stats", "an interval of usefulness", "evaluate").t
    by_seed, by_image = values.double().mean(dim=1), values.double().mean(dim=0)
    parts = [(influence_std(each) ** 2, len(each) - 1) for each in (by_seed, by_image)]
    variance = sum(part for part, _ in parts)
    # Satterthwaite (1946), "An approximate distribution of estimates of variance components", equation 17
    spread = sum(part**2 / freedom for part, freedom in parts if freedom)
    reach = float(student_t.ppf((1 + LEVEL) / 2, variance**2 / spread)) if spread > 0 else Z
    return float(values.double().mean()), math.sqrt(variance), reach
