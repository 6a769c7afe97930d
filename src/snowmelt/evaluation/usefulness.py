"""Is it useful: what a classifier learns from generated images (classification accuracy score, Ravuri and
Vinyals 2019, "Classification accuracy score for conditional generative models").

The same small classifier is trained on real images, on generated ones, and on both together, equally long,
and tested on real images that it has not seen. Trained on generated images it shows what the generator has
understood of the classes; trained on both, whether augmentation helps, and which class.

**Interval.** Accuracy varies with the seed of the training and with the images that it is tested on. With
c_si = 1 where the classifier of seed s is right about image i, the variance of the mean over S seeds and N
images is, each part estimated by itself,

    var_s(mean_i c_si) / S + var_i(mean_s c_si) / N

and Student's t, with Satterthwaite's degrees of freedom, makes an interval of it, for S is small. Gains are
paired: seed by seed and image by image, both classifiers start alike and see the same test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snowmelt.evaluation.features.small_network import SmallClassifier, default_steps, train_classifier
from snowmelt.evaluation.uncertainty import Figure, Z, influence_std, proportion_interval
from snowmelt.formats import ImageSource
from snowmelt.progress import progress

__all__ = ["Accuracy", "Usefulness", "usefulness"]

ROWS = 1024  # images a call
SETS = ("real", "generated", "both")


class _Labelled(NamedTuple):
    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Accuracy:
    """Shares of held-out images that are recognised, or differences of such shares.

    Attributes:
        overall: of all images.
        per_class: of those of each class, by its name.
    """

    overall: Figure
    per_class: dict[str, Figure]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON knows."""
        return {
            "overall": self.overall.to_dict(),
            "per_class": {name: each.to_dict() for name, each in self.per_class.items()},
        }


@dataclass(frozen=True)
class Usefulness:
    """What a classifier learns from generated images.

    Attributes:
        accuracy: trained on ``real``, on ``generated`` and on ``both``; ``generated`` is the classification
            accuracy score.
        gain: ``both`` minus ``real``, paired by seed and test image.
        real_images: that there were to train on, by class.
        generated_images: the same.
        seeds: of the trainings.
        steps: of each.
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
        verdict = "Yes" if gain.low > 0 else "No" if gain.high < 0 else "Cannot be told"
        return (
            f"{verdict}: with {self.generated_images[name]:,} generated images beside its "
            f"{self.real_images[name]:,} real ones, class {name} is recognised in {100 * after:.1f} % of "
            f"held-out images instead of {100 * before:.1f} %: {100 * gain.value:+.1f} points (95 % interval "
            f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON knows."""
        return {
            "accuracy": {which: each.to_dict() for which, each in self.accuracy.items()},
            "gain": self.gain.to_dict(),
            "real_images": dict(self.real_images),
            "generated_images": dict(self.generated_images),
            "seeds": list(self.seeds),
            "steps": self.steps,
            "rarest": self.rarest,
            "answer": self.answer(),
        }


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
        steps: batches of 64 in each training; None takes 300, or as many as make five passes over the real
            and generated images together if that is more.
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
    loaded = [_loaded(source) for source in sources]
    _check_shapes(sources, loaded)
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


def _loaded(source: ImageSource) -> _Labelled:
    if source.labels is None:
        raise ValueError(
            f"{source.name} has no labels, and a classifier learns classes: give labelled images"
        )
    return _Labelled(torch.cat(list(source.batches(ROWS))), source.labels)


def _check_shapes(sources: Sequence[ImageSource], loaded: Sequence[_Labelled]) -> None:
    shapes = [tuple(each.images.shape[1:]) for each in loaded]
    if len(set(shapes)) > 1:
        listed = ", ".join(f"{source.name} {shape}" for source, shape in zip(sources, shapes, strict=True))
        raise ValueError(
            f"images must be of one shape, got {listed}: give one image_size and channels to all"
        )


def _class_names(sources: Sequence[ImageSource], loaded: Sequence[_Labelled]) -> list[str]:
    """Return a name for each class that a label of any set has; its number where it has no other."""
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
    make_figure: Callable[[Tensor, int], Figure],
    n_generated: int,
) -> Accuracy:
    """Return figures of values (S, N), of all test images and of each class."""
    per_class = {
        name: make_figure(right[:, test.labels == label], n_generated)
        for label, name in enumerate(names)
        if bool((test.labels == label).any())
    }
    return Accuracy(make_figure(right, n_generated), per_class)


def _share(right: Tensor, n_generated: int) -> Figure:
    """Return the figure of a share, from values 0 and 1, (S, N)."""
    value, std, reach = _mean(right)
    interval = proportion_interval(value, std * reach / Z, right.shape[1])
    return _figure(value, std, interval, right, n_generated)


def _difference(change: Tensor, n_generated: int) -> Figure:
    """Return the figure of a difference of shares, from values -1, 0 and 1, (S, N)."""
    value, std, reach = _mean(change)
    # Where all agree, only the number of images says what may have been missed
    half = reach * std if std > 0 else proportion_interval(0.0, 0.0, change.shape[1])[1]
    interval = max(-1.0, value - half), min(1.0, value + half)
    return _figure(value, std, interval, change, n_generated)


def _figure(
    value: float, std: float, interval: tuple[float, float], values: Tensor, n_generated: int
) -> Figure:
    trainings, tested = values.shape
    return Figure(value, *interval, std, n_generated, tested, f"mean of {trainings} trainings")


def _mean(values: Tensor) -> tuple[float, float, float]:
    """Return the mean of values (S, N), its standard error, and how many of these 95 % reach."""
    by_seed, by_image = values.double().mean(dim=1), values.double().mean(dim=0)
    parts = [(influence_std(each) ** 2, len(each) - 1) for each in (by_seed, by_image)]
    variance = sum(part for part, _ in parts)
    # Satterthwaite (1946), "An approximate distribution of estimates of variance components", equation 17
    spread = sum(part**2 / freedom for part, freedom in parts if freedom)
    reach = _t_quantile(variance**2 / spread) if spread > 0 else Z
    return float(values.double().mean()), math.sqrt(variance), reach


def _t_quantile(freedom: float) -> float:
    """Return what 95 % of Student's t lie within: Abramowitz and Stegun (1964), equation 26.7.5.

    >>> [round(_t_quantile(freedom), 2) for freedom in (2, 4, 10, 100)]  # tables say 4.30, 2.78, 2.23, 1.98
    [4.27, 2.78, 2.23, 1.98]
    """
    terms = (
        Z,
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
