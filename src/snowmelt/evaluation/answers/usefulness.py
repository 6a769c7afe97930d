"""Is it useful: whether a classifier that real images teach is taught more with generated ones added.

The question is put to the strongest simple baseline. Two learners are tried, a small network and, with an
extractor, a linear head on its frozen features. Each is tried plain, with class-balanced sampling, with the
usual augmentations, and with both; each without and with the generated images. Trained on generated images
alone, the classifier shows how well these represent the classes (classification accuracy score, Ravuri and
Vinyals 2019, "Classification accuracy score for conditional generative models").

**Three sets.** Validation images decide which learner and recipe is the strongest without generated images,
and which with them. They are a fifth of the real training images, and return to these afterwards. The
held-out images test the chosen ones, once, and decide nothing. Where the generator knows the validation
images, they favour generated images; the test images do not, so the answer stays fair.

Intervals are explained in `snowmelt.evaluation.learning.figures`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from snowmelt.evaluation.features.extractor import Extractor
from snowmelt.evaluation.features.small_classifier import ClassifierExtractor, default_steps
from snowmelt.evaluation.learning.choosing import Candidate, best_of, rank, rounds_of
from snowmelt.evaluation.learning.figures import (
    Figures,
    Outcome,
    SeedFigures,
    figures,
    outcome_of,
    seed_figures,
)
from snowmelt.evaluation.learning.learners import Learner, LinearHead, Loaded, Network, load
from snowmelt.evaluation.learning.recipes import Recipe
from snowmelt.evaluation.matching import check_labelled, check_one_shape
from snowmelt.evaluation.uncertainty import Estimate, Z
from snowmelt.formats import ImageSource
from snowmelt.json_files import Json, plain
from snowmelt.progress import progress
from snowmelt.report import INTERVALS, Chapter, Table
from snowmelt.text import counted

__all__ = ["Arm", "SeedPair", "Usefulness", "usefulness", "usefulness_chapter"]

FEW_SEEDS = 3
SMALLEST_GAIN = 0.0005  # what three decimals show
REAL, GENERATED = "real", "generated"


@dataclass(frozen=True)
class Arm:
    """One way to train a classifier.

    Attributes:
        learner: ``small network`` or ``linear head``.
        trained_on: ``real``, the name of a set of generated images, or ``real + NAME``.
        recipe: ``plain``, ``balanced + augmented``, ...
        validation: balanced accuracy on validation images; None where it was not looked at.
        test: figures on the held-out images; None where validation has ruled it out.
        by_seed: the same of each seed; empty if there is no test.
    """

    learner: str
    trained_on: str
    recipe: str
    validation: float | None
    test: Figures | None = None
    by_seed: tuple[SeedFigures, ...] = ()

    def __str__(self) -> str:
        return f"{self.learner}, {self.recipe}"


class SeedPair(NamedTuple):
    """Balanced accuracies of one seed's classifiers on the test images."""

    seed: int
    without: float
    with_generated: float

    @property
    def gain(self) -> float:
        """What the generated images add."""
        return self.with_generated - self.without


@dataclass(frozen=True)
class Usefulness:
    """What generated images add to the strongest classifier without them.

    Attributes:
        arms: all ways to train that were tried.
        baseline: index of the strongest without generated images, by validation images.
        with_generated: index of the strongest with real and generated images, by validation images.
        alone: index of the one that learns from generated images alone.
        added: the name of the set of generated images that validation images chose.
        gain: ``with_generated`` minus ``baseline`` on the test images, paired by seed and test image.
        real_images, generated_images, tested_images: the number of images by class.
        validation_images: the number of images that validate in each round of choosing.
        seeds: of the trainings.
        steps: of each training of a network.
    """

    arms: tuple[Arm, ...]
    baseline: int
    with_generated: int
    alone: int
    added: str
    gain: Figures
    real_images: dict[str, int]
    generated_images: dict[str, int]
    tested_images: dict[str, int]
    validation_images: int
    seeds: list[int]
    steps: int

    @property
    def rarest(self) -> str:
        """The tested class with the fewest real images to train on."""
        return min(self.gain.recall, key=lambda name: self.real_images[name])

    def tested(self, index: int) -> Figures:
        """Return the test figures of an arm.

        Raises:
            ValueError: validation has ruled it out, so that it was never tested.
        """
        if (found := self.arms[index].test) is None:
            raise ValueError(f"{self.arms[index]} was not tested: validation images have ruled it out")
        return found

    def paired(self) -> list[SeedPair]:
        """Return what the two that are compared reach with each seed."""
        before, after = (self.arms[index].by_seed for index in (self.baseline, self.with_generated))
        return [
            SeedPair(one.seed, one.balanced_accuracy, other.balanced_accuracy)
            for one, other in zip(before, after, strict=True)
        ]

    def answer(self) -> str:
        """Return in plain sentences whether the generated images help, in all and for the rarest class."""
        gain, number = self.gain.balanced_accuracy, sum(self.generated_images.values())
        before, after = (
            self.tested(index).balanced_accuracy.value for index in (self.baseline, self.with_generated)
        )
        change = f"the balanced accuracy on held-out real images from {before:.3f} to {after:.3f}"
        if gain.low > 0:
            told = f"A benefit was shown: adding {counted(number, 'generated image')} raised {change}"
        elif gain.high < 0:
            told = f"The generated images harm: adding {number:,} of them lowered {change}"
        else:
            told = f"No benefit was shown: adding {counted(number, 'generated image')} moved {change}"
        return f"{told} ({_interval(gain)}). {self.answer_for(self.rarest)}"

    def answer_for(self, class_name: str) -> str:
        """Return in one sentence whether the generated images help to recognise a class.

        Raises:
            ValueError: no image of that class has been tested.
        """
        if class_name not in self.gain.recall:
            raise ValueError(f"class must be one of {', '.join(self.gain.recall)}, got {class_name!r}")
        gain = self.gain.recall[class_name]
        before, after = (
            self.tested(index).recall[class_name].value for index in (self.baseline, self.with_generated)
        )
        told = "is helped" if gain.low > 0 else "is harmed" if gain.high < 0 else "shows no benefit"
        which = "The rarest class" if class_name == self.rarest else "Class"
        return (
            f"{which} {class_name} ({self.real_images[class_name]:,} real and "
            f"{counted(self.generated_images[class_name], 'generated image')}) {told}: {after:.1%} of its "
            f"held-out images are recognised, instead of {before:.1%} ({_interval(gain)})."
        )

    def needed(self) -> str | None:
        """Return about how many seeds or test images would show a benefit of the size that was seen.

        The variance of the gain is that between seeds, over their number, and that between test images, over
        theirs. Its interval ends above 0 where it is below (gain / 1.96)^2. None where a benefit was shown,
        or none was seen that three decimals show.
        """
        gain = self.gain.balanced_accuracy
        if gain.low > 0 or gain.value < SMALLEST_GAIN:
            return None
        gains = [each.gain for each in self.paired()]
        seeds, images = len(gains), sum(self.tested_images.values())
        of_seeds = statistics.variance(gains) / seeds
        of_images = max(gain.std**2 - of_seeds, 0.0)
        wanted = (gain.value / Z) ** 2
        if of_images < wanted:
            needed = counted(math.ceil(seeds * max(1.0, of_seeds / (wanted - of_images))), "seed")
        elif of_seeds < wanted:
            needed = counted(math.ceil(images * of_images / (wanted - of_seeds)), "test image")
        else:
            times = (of_images + of_seeds) / wanted
            needed = f"{times:,.0f} times as many seeds and test images"
        return (
            f"A gain of {gain.value:+.3f} would be shown by about {needed}; here are {seeds} and {images:,}"
        )

    def to_dict(self) -> Json:
        """Return it as plain values that JSON knows."""
        return {**plain(self), "rarest": self.rarest, "answer": self.answer()}


def usefulness(
    generated: ImageSource,
    real: ImageSource,
    held_out: ImageSource,
    *,
    extractor: Extractor | None = None,
    validation: ImageSource | None = None,
    additions: Mapping[str, Sequence[int]] | None = None,
    seeds: Sequence[int] = range(5),
    steps: int | None = None,
    device: str | torch.device = "cpu",
    cache: str | Path | None = None,
    show_progress: bool = False,
) -> Usefulness:
    """Find the strongest classifier without generated images and with them, and compare these two.

    Args:
        generated, real: labelled images to train on, of one shape.
        held_out: labelled real images for the test. Neither the classifiers nor the generator has seen them.
        extractor: its features get a linear head. None leaves that out, and so does a classifier that was
            trained on the images at hand, because it has seen the validation images.
        validation: labelled real images, which decide which classifiers to compare; None keeps a fifth of
            `real` for that, and trains on all of `real` once the choice is made.
        additions: sets of generated images, by name: their indices in `generated`. Validation images choose
            among them too. None takes all images as one set.
        seeds: of the trainings, two or more.
        steps: batches of 64 in each training of the network; None takes five passes over the real and
            generated images together, and at least 300.
        device: where to train.
        cache: a folder that keeps features; None keeps nothing.
        show_progress: show a bar over the trainings.

    Raises:
        ValueError: labels are missing, the images differ in shape, there are fewer than two classes or
            seeds, a set of generated images is empty, or no class has two real images to choose with.

    >>> from snowmelt.evaluation import open_images
    >>> digits = open_images("digits:test")
    >>> result = usefulness(digits, digits, digits, seeds=range(2), steps=2)
    >>> result.arms[result.with_generated].trained_on, result.real_images["3"]
    ('real + generated', 37)
    """
    seeds = list(seeds)
    if not 2 <= len(set(seeds)) == len(seeds):
        raise ValueError(f"an interval needs two different seeds or more, got {seeds}")
    sources = [real, generated, *([validation] if validation is not None else [])]
    check_labelled([*sources, held_out])
    check_one_shape([*sources, held_out])
    sets, test = [load(source) for source in sources], load(held_out)
    names = _class_names([*sources, held_out], [*sets, test])
    if len(names) < 2:
        raise ValueError(f"a classifier needs at least 2 classes, got {', '.join(names)}")

    labels = torch.cat([each.labels for each in sets])
    first, second = (len(each.labels) for each in sets[:2])
    real_rows, generated_rows, rest = torch.arange(len(labels)).tensor_split([first, first + second])
    sets_added = {name: generated_rows[list(rows)] for name, rows in (additions or {}).items()}
    sets_added = sets_added or {GENERATED: generated_rows}
    if empty := [name for name, added in sets_added.items() if not len(added)]:
        raise ValueError(f"there is no generated image in {empty[0]}: leave it out, or generate more")
    rounds = rounds_of(sets[0].labels, rest if validation is not None else None)
    steps = steps if steps is not None else default_steps(first + second)

    learners: list[Learner] = []
    if extractor is not None and not isinstance(extractor, ClassifierExtractor):
        learners.append(LinearHead(sets, len(names), extractor, cache=cache, show_progress=show_progress))
    learners.append(Network(sets, len(names), steps, device))

    with progress(None, "Choosing classifiers", show=show_progress, unit="classifier", leave=False) as bar:
        candidates = rank(learners, labels, rounds, sets_added, bar.update)
    plan = _Plan.of(candidates)
    arms, found = _run(plan, real_rows, sets_added, test, names, seeds, show_progress)
    chosen = sets_added[plan.chosen]
    gain = figures(found[plan.with_generated].minus(found[plan.baseline]), names, len(chosen), compared=True)
    learned = (labels[real_rows], labels[chosen], test.labels)
    real_counts, generated_counts, tested_counts = (_counts(each, names) for each in learned)
    return Usefulness(
        arms=arms,
        baseline=plan.baseline,
        with_generated=plan.with_generated,
        alone=plan.alone,
        added=plan.chosen,
        gain=gain,
        real_images=real_counts,
        generated_images=generated_counts,
        tested_images=tested_counts,
        validation_images=len(rounds[0].validation),
        seeds=seeds,
        steps=steps,
    )


@dataclass(frozen=True)
class _Plan:
    """All candidates, and which of them are tested. No test image is known.

    The last candidate is the strongest one with generated images, which learns from these alone.
    """

    candidates: list[Candidate]
    baseline: int
    with_generated: int
    tested: list[int]

    @property
    def alone(self) -> int:
        return len(self.candidates) - 1

    @property
    def chosen(self) -> str:
        """The name of the set of generated images that validation images chose."""
        return str(self.candidates[self.with_generated].added)

    def seeds_of(self, number: int, seeds: Sequence[int]) -> Sequence[int]:
        """Return the seeds of a candidate: few of them if it only stands beside the two that are compared."""
        return seeds if number in (self.baseline, self.with_generated) else seeds[:FEW_SEEDS]

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> _Plan:
        without = best_of([each for each in candidates if each.added is None])
        added = best_of([each for each in candidates if each.added is not None])
        baseline, with_generated = candidates.index(without), candidates.index(added)
        ordinary = [
            number
            for number, each in enumerate(candidates)
            if each.learner is without.learner
            and each.recipe == Recipe()
            and each.added in (None, added.added)
        ]
        tested = {baseline, with_generated, len(candidates), *ordinary}
        return cls([*candidates, added], baseline, with_generated, sorted(tested))


def _run(
    plan: _Plan,
    real: Tensor,
    added: Mapping[str, Tensor],
    test: Loaded,
    names: Sequence[str],
    seeds: Sequence[int],
    show_progress: bool,
) -> tuple[tuple[Arm, ...], dict[int, Outcome]]:
    """Train the chosen candidates with every seed, and test them."""
    total = sum(len(plan.seeds_of(number, seeds)) for number in plan.tested)
    seen: dict[str, Tensor] = {}
    found: dict[int, Outcome] = {}
    arms = []
    with progress(None, "Usefulness", show=show_progress, total=total, unit="training") as bar:
        for number, each in enumerate(plan.candidates):
            alone, learner = number == plan.alone, each.learner
            parts = [] if alone else [(REAL, real)]
            parts += [(each.added, added[each.added])] if each.added is not None else []
            on, rows = " + ".join(name for name, _ in parts), torch.cat([rows for _, rows in parts])
            arm = Arm(learner.name, on, str(each.recipe), None if alone else each.score)
            if number in plan.tested:
                if learner.name not in seen:
                    seen[learner.name] = learner.see(test)
                answers = []
                for seed in plan.seeds_of(number, seeds):
                    classify = learner.fit(rows, each.recipe, seed, each.strength)
                    answers.append(classify(seen[learner.name]))
                    bar.update()
                results = outcome_of(torch.stack(answers), test.labels)
                generated = len(added[each.added]) if each.added is not None else 0
                arm = replace(
                    arm,
                    test=figures(results, names, generated),
                    by_seed=tuple(seed_figures(results, names, plan.seeds_of(number, seeds))),
                )
                found[number] = results
            arms.append(arm)
    return tuple(arms), found


def usefulness_chapter(result: Usefulness) -> Chapter:
    """Return the chapter of a report."""
    best = [result.arms[index] for index in (result.baseline, result.with_generated)]
    chosen = (
        f"Validation images chose both: without generated images the strongest classifier is a {best[0]}, "
        f"with them a {best[1]}. Nothing was chosen by the test images."
    )
    return Chapter("Is it useful", [result.answer(), chosen, _arm_table(result), _class_table(result)])


def _arm_table(result: Usefulness) -> Table:
    rows = []
    for arm in result.arms:
        test = str(arm.test.balanced_accuracy.percent()) if arm.test is not None else ""
        score = f"{100 * arm.validation:.1f}" if arm.validation is not None else ""
        rows.append([arm.learner, arm.trained_on, arm.recipe, score, test])
    caption = f"Balanced accuracy of all classifiers in percent, {INTERVALS}"
    notes = [
        f"{result.validation_images:,} real images validate in each of the rounds of choosing. "
        f"{sum(result.tested_images.values()):,} images test the marked ones, by "
        f"{counted(len(result.seeds), 'seed')}.",
        f"Each training of a network has {counted(result.steps, 'step')}. A linear head is fitted until it "
        "converges.",
        f"The plain ones and that of generated images alone stand beside them, tested by up to {FEW_SEEDS} "
        "seeds. The others are not tested: validation has ruled them out.",
    ]
    header = ["classifier", "trained on", "recipe", "on validation images", "on test images"]
    return Table(caption, header, rows, [result.baseline, result.with_generated], notes)


def _class_table(result: Usefulness) -> Table:
    before, after = (result.tested(index) for index in (result.baseline, result.with_generated))
    counts = [result.real_images, result.generated_images, result.tested_images]
    rows = []
    for name in result.gain.recall:
        measured = [
            getattr(each, what)[name]
            for what in ("recall", "average_precision")
            for each in (before, after, result.gain)
        ]
        rows.append([name, *(f"{each[name]:,}" for each in counts), *(str(e.percent()) for e in measured)])
    caption = f"Each class without and with generated images on test images in percent, {INTERVALS}"
    header = ["class", "real", "generated", "tested", "recall", "with generated", "gain"]
    header += ["area of precision and recall", "with generated", "gain"]
    return Table(caption, header, rows, [list(result.gain.recall).index(result.rarest)])


def _interval(gain: Estimate) -> str:
    return f"{gain.value:+.3f}, 95 % interval {gain.low:+.3f} to {gain.high:+.3f}"


def _class_names(sources: Sequence[ImageSource], loaded: Sequence[Loaded]) -> list[str]:
    """Return a name for each class of any set: its number where it has no other name."""
    known = next((source.class_names for source in sources if source.class_names), [])
    highest = max(int(each.labels.max()) for each in loaded)
    return [
        known[label] if label < len(known) else str(label) for label in range(max(highest + 1, len(known)))
    ]


def _counts(labels: Tensor, names: Sequence[str]) -> dict[str, int]:
    return dict(zip(names, labels.bincount(minlength=len(names)).tolist(), strict=True))
