"""Usefulness: what generated images add to the strongest baseline, who chooses it, and how sure that is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from snowmelt.evaluation import TensorSource, make_extractor
from snowmelt.evaluation.answers.usefulness import Usefulness, usefulness
from snowmelt.evaluation.features.small_classifier import ClassifierExtractor, SmallClassifier
from snowmelt.evaluation.learning.choosing import rank, rounds_of
from snowmelt.evaluation.learning.figures import figures, mean_estimate, outcome_of
from snowmelt.evaluation.learning.learners import LinearHead, Network, load
from snowmelt.evaluation.learning.recipes import RECIPES, Recipe, augment

CLASSES, STEPS = 4, 25
NAMES = ["ant", "bee", "cat", "dog"]
PIXELS = make_extractor("pixels")


def blobs(counts: list[int], seed: int, noise: float = 0.5, name: str = "blobs") -> TensorSource:
    """Images 4x4 whose bright corner is the class, under noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images = noise * torch.randn(len(labels), 1, 4, 4, generator=generator) - 0.5
    for image, label in zip(images, labels.tolist(), strict=True):
        down, right = 2 * (label // 2), 2 * (label % 2)
        image[:, down : down + 2, right : right + 2] += 1.0
    return TensorSource(images.clamp(-1, 1), labels, NAMES, name)


def shuffled(source: TensorSource) -> TensorSource:
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(5))
    return TensorSource(source.images, source.labels[order], NAMES)


def asked(generated: TensorSource, real: TensorSource, test: TensorSource | None = None) -> Usefulness:
    """The answer of linear heads on pixels, which takes no seconds."""
    test = blobs([60] * CLASSES, 99, noise=0.9) if test is None else test
    return usefulness(generated, real, test, extractor=PIXELS, seeds=range(2), steps=1)


@pytest.fixture(scope="module", autouse=True)
def one_strength():
    """A third of the time."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(LinearHead, "strengths", (0.1,))
        yield


@pytest.fixture(scope="module")
def rare() -> Usefulness:
    """Two real images of the last class, forty of the others; generated ones of the last."""
    return asked(blobs([0, 0, 0, 80], 1, noise=0.9), blobs([40, 40, 40, 2], 2, noise=0.9))


# What is learned


def test_true_images_teach_everything_and_shuffled_labels_nothing():
    real, true, test = (blobs([count] * CLASSES, seed) for count, seed in ((30, 3), (30, 4), (60, 99)))
    result = usefulness(true, real, test, seeds=range(2), steps=20)
    for which in (result.baseline, result.alone):
        assert result.arms[which].learner == "small network"
        assert result.tested(which).balanced_accuracy.value > 0.97
    taught = asked(shuffled(true), real, test)
    assert taught.tested(taught.alone).balanced_accuracy.value < 0.5


@pytest.mark.parametrize("recipe", [*RECIPES, Recipe(augmented=True, mirrored=True)], ids=str)
@pytest.mark.parametrize("linear", [True, False])
def test_every_learner_learns_by_every_recipe(linear, recipe):
    """Mirrored, the left and the right corner are one class."""
    sets, test = [load(blobs([40, 40, 40, 10], 1))], load(blobs([40] * CLASSES, 2))
    learner = LinearHead(sets, CLASSES, PIXELS) if linear else Network(sets, CLASSES, 2 * STEPS)
    found = learner.fit(torch.arange(130), recipe, 0, learner.strengths[-1])(learner.see(test))
    assert found.shape == (160, CLASSES)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(160))
    right = (found.argmax(dim=1) == test.labels).float().mean()
    assert right > 0.9 or (recipe.mirrored and right > 0.4)


def test_balancing_asks_more_of_the_rare_class():
    sets, test = [load(blobs([120, 120, 120, 3], 1, noise=0.9))], load(blobs([60] * CLASSES, 2, noise=0.9))
    for learner in (LinearHead(sets, CLASSES, PIXELS), Network(sets, CLASSES, STEPS)):
        plain, balanced = (
            learner.fit(torch.arange(363), recipe, 0, learner.strengths[0])(learner.see(test))[:, 3].mean()
            for recipe in RECIPES[:2]
        )
        assert balanced > 2 * plain


def test_augmentation_changes_each_image_by_little_and_by_its_generator_alone():
    images = torch.zeros(64, 3, 24, 12, dtype=torch.uint8)
    images[:, :, 8:16, 3:6] = 200  # left of the middle
    before = torch.get_rng_state()
    once, again = (augment(images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(before, torch.get_rng_state())
    assert len(once.unique(dim=0)) == 64
    columns = torch.arange(12).float()

    def middles(changed: torch.Tensor) -> torch.Tensor:
        seen = changed.float() - changed.float().amin(dim=(2, 3), keepdim=True)
        return (seen.sum(dim=(1, 2)) * columns).sum(dim=1) / seen.sum(dim=(1, 2, 3))

    assert (middles(once) - 4).abs().max() < 12 / 8 + 1
    assert middles(once).mean() == pytest.approx(4, abs=0.5)
    right = (middles(augment(images, torch.Generator().manual_seed(1), mirrored=True)) > 5.5).float().mean()
    assert 0.25 < right < 0.75


# What is answered


def test_a_rare_class_is_helped(rare):
    assert rare.rarest == "dog"
    assert rare.gain.balanced_accuracy.low > 0
    assert rare.gain.recall["dog"].low > 0
    before, after = (rare.tested(which) for which in (rare.baseline, rare.with_generated))
    change = f"from {before.balanced_accuracy.value:.3f} to {after.balanced_accuracy.value:.3f}"
    assert rare.answer().startswith("A benefit was shown: adding 80 generated images raised the balanced")
    assert change in rare.answer()
    assert "The rarest class dog (2 real and 80 generated images) is helped" in rare.answer()
    for figure in ("recall", "average_precision"):
        for name in NAMES:
            values = [getattr(each, figure)[name].value for each in (before, after, rare.gain)]
            assert values[2] == pytest.approx(values[1] - values[0], abs=1e-9)


def test_noise_and_shuffled_labels_show_no_benefit():
    real = blobs([12] * CLASSES, 3, noise=0.9)
    noise = TensorSource(torch.rand(80, 1, 4, 4) * 2 - 1, torch.arange(80) % CLASSES, NAMES)
    for generated in (noise, shuffled(blobs([60] * CLASSES, 4))):
        assert asked(generated, real).gain.balanced_accuracy.low <= 0


def test_harm_is_called_harm():
    """Every class looks like the next one."""
    wrong = blobs([100] * CLASSES, 4)
    wrong = TensorSource(wrong.images, (wrong.labels + 1) % CLASSES, NAMES)
    answer = asked(wrong, blobs([12] * CLASSES, 3)).answer()
    assert answer.startswith("The generated images harm: adding 400 of them lowered")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.3, "A benefit was shown: "),
        (-0.1, 0.3, "No benefit was shown: "),
        (-0.3, -0.1, "The generated"),
    ],
)
def test_a_gain_that_may_be_chance_is_no_benefit(rare, low, high, verdict):
    gain = replace(rare.gain.balanced_accuracy, low=low, value=(low + high) / 2, high=high)
    assert replace(rare, gain=replace(rare.gain, balanced_accuracy=gain)).answer().startswith(verdict)


def test_where_nothing_changes_nothing_is_claimed():
    easy = blobs([20] * CLASSES, 3, noise=0.1)
    result = asked(blobs([20] * CLASSES, 4, noise=0.1), easy, blobs([20] * CLASSES, 5, noise=0.1))
    gain = result.gain.recall["ant"]
    assert gain.value == 0
    assert gain.low < -0.02 < 0.02 < gain.high  # twenty images cannot rule out what one in twenty would show
    assert result.answer().startswith("No benefit was shown: ")


def test_the_result_is_plain_values(rare):
    values = json.loads(json.dumps(rare.to_dict()))
    assert values["real_images"] == dict(zip(NAMES, [40, 40, 40, 2], strict=True))
    assert values["answer"] == rare.answer()
    for number in (rare.baseline, rare.with_generated):
        arm, found = values["arms"][number], rare.tested(number).balanced_accuracy
        by_seed = [each["balanced_accuracy"] for each in arm["by_seed"]]
        assert len(by_seed) == 2
        assert np.mean(by_seed) == pytest.approx(found.value)


# Who chooses


def test_the_test_images_choose_nothing(rare):
    """Whatever they are, the same classifiers are compared."""
    others = shuffled(blobs([60] * CLASSES, 7, noise=2.0))
    result = asked(blobs([0, 0, 0, 80], 1, noise=0.9), blobs([40, 40, 40, 2], 2, noise=0.9), others)
    for name in ("baseline", "with_generated", "alone"):
        assert getattr(result, name) == getattr(rare, name)
    choice = [
        [(arm.learner, arm.trained_on, arm.recipe, arm.validation) for arm in each.arms]
        for each in (result, rare)
    ]
    assert choice[0] == choice[1]
    assert result.gain != rare.gain


def test_given_validation_images_choose():
    """What they say of each classifier is what decides, so false labels make all of them look like chance."""
    real, generated, test, validation = (blobs([20] * CLASSES, seed) for seed in (1, 2, 3, 4))
    for each, least, most in ((validation, 0.9, 1.0), (shuffled(validation), 0.1, 0.4)):
        result = usefulness(generated, real, test, extractor=PIXELS, validation=each, seeds=range(2), steps=1)
        assert result.validation_images == 80
        assert least < result.arms[result.baseline].validation <= most
        assert result.arms[result.baseline].validation == max(
            arm.validation for arm in result.arms if arm.trained_on == "real"
        )


@pytest.mark.parametrize("counts", [[10, 5, 2, 1], [50, 2, 2, 2]])
def test_a_round_validates_with_a_fifth_of_each_class_that_it_does_not_train_on(counts):
    labels = torch.arange(4).repeat_interleave(torch.tensor(counts))
    rounds = rounds_of(labels)
    for each in rounds:
        assert sorted([*each.training.tolist(), *each.validation.tolist()]) == list(range(len(labels)))
        validating = labels[each.validation].bincount(minlength=4).tolist()
        assert validating == [max(1, count // 5) if count > 1 else 0 for count in counts]
    assert not set(rounds[0].validation.tolist()) & set(rounds[1].validation.tolist())


class Guess:
    """A learner that is right about a share of the images, and remembers what it was asked to do."""

    strengths = (0.0,)

    def __init__(self, name: str, labels: torch.Tensor, share: float) -> None:
        self.name, self.asked = name, []
        self.seen = torch.where(torch.rand(len(labels)) < share, labels, (labels + 1) % 2)

    def see(self, images):
        raise NotImplementedError

    def fit(self, rows, recipe, seed, strength):
        self.asked.append((str(recipe), len(rows)))
        return lambda seen: torch.eye(2)[seen]


@pytest.mark.parametrize(("share", "tried"), [(0.6, 2), (0.95, 5)])
def test_a_learner_that_is_clearly_worse_is_left_out_early(share, tried):
    labels = torch.arange(600) % 2
    learners = [Guess("fast", labels, 0.95), Guess("slow", labels, share)]
    ranked = rank(learners, labels, rounds_of(labels[:500]), {"generated": torch.arange(500, 600)})
    assert [each.learner.name for each in ranked].count("slow") == tried
    assert {recipe for recipe, _ in learners[0].asked} == {"plain", "augmented", "augmented + mirrored"}
    assert {rows for _, rows in learners[0].asked} == {400, 500}  # without and with the generated ones


def test_validation_chooses_the_strength_of_a_learner():
    labels = torch.arange(100) % 2

    class Dial(Guess):
        strengths = (0.1, 0.2, 0.3)

        def fit(self, rows, recipe, seed, strength):
            return lambda seen: torch.eye(2)[seen if strength == 0.2 else 1 - seen]

    ranked = rank(
        [Dial("dial", labels, 0.9)], labels, rounds_of(labels[:80]), {"more": torch.arange(80, 100)}
    )
    assert {each.strength for each in ranked} == {0.2}


def test_an_extractor_that_has_seen_the_validation_images_is_left_out():
    images = blobs([5] * CLASSES, 1)
    extractor = ClassifierExtractor(SmallClassifier(1, (4, 4), CLASSES), (1, 4, 4))
    result = usefulness(images, images, images, extractor=extractor, seeds=range(2), steps=1)
    assert {arm.learner for arm in result.arms} == {"small network"}


# How sure


def test_figures_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    said, labels = torch.rand(3, 50, 4, generator=generator).softmax(dim=2), torch.arange(50) % 3
    found = figures(outcome_of(said, labels), NAMES, 0)
    assert list(found.recall) == NAMES[:3]  # the last one is not tested
    guesses = said.argmax(dim=2)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = np.mean([balanced_accuracy_score(labels, each) for each in guesses])
    assert found.balanced_accuracy.value == pytest.approx(expected)
    for label, name in enumerate(NAMES[:3]):
        areas = [average_precision_score(labels == label, each[:, label]) for each in said]
        assert found.average_precision[name].value == pytest.approx(np.mean(areas))


def test_an_interval_over_seeds_alone_is_students():
    """All of very many images agree, so that the seeds alone vary: scipy's interval of their mean."""
    by_seed = np.array([0.1, 0.3, 0.2, 0.6])
    values = torch.from_numpy(by_seed)[:, None].expand(-1, 100_000)
    found = mean_estimate(values, [torch.arange(100_000)], compared=True)
    expected = stats.t.interval(0.95, 3, by_seed.mean(), stats.sem(by_seed))
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-4)


def test_intervals_hold_the_truth_of_linear_classifiers():
    """Two linear classifiers, fixed, and test images of unequal classes drawn again and again."""
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([[1.5, 0.0], [-1.5, 0.0], [0.0, 2.0]])
    heads = torch.stack([means, means + 0.6 * torch.randn(3, 2, generator=generator)])
    sharp = 2 * torch.tensor([1.0, 0.7])[:, None, None]

    def measured(counts: list[int]):
        labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
        images = means[labels] + torch.randn(len(labels), 2, generator=generator)
        said = (sharp * (images @ heads.mT - heads.square().sum(dim=2)[:, None] / 2)).softmax(dim=2)
        good, bad = (outcome_of(each[None], labels) for each in said)
        return figures(good, NAMES, 0), figures(good.minus(bad), NAMES, 0, compared=True)

    def values(share, gain):
        yield "share", share.balanced_accuracy
        yield "gain", gain.balanced_accuracy
        for kind, found in (("share", share), ("gain", gain)):
            for name in NAMES[:3]:
                yield f"{kind}: recall", found.recall[name]
                yield f"{kind}: area", found.average_precision[name]

    truth = [found.value for _, found in values(*measured([8000, 6000, 2400]))]
    held: dict[str, list[bool]] = {}
    for _ in range(80):
        for (kind, found), true in zip(values(*measured([40, 30, 12])), truth, strict=True):
            held.setdefault(kind, []).append(found.low <= true <= found.high)
    for kind, each in held.items():
        assert 0.88 <= np.mean(each) < 1, kind


def test_the_interval_of_a_gain_holds_the_truth_over_seeds_too():
    """Seeds and images of varying luck, drawn again and again."""
    generator = np.random.default_rng(0)
    held, truth, classes = [], 0.1, [torch.arange(40), torch.arange(40, 60)]
    for _ in range(300):
        easy = generator.normal(0, 0.25, 60)
        lucky = generator.normal(0, 0.05, 4)[:, None]
        better = (generator.random((4, 60)) < 0.3 + truth + easy + lucky).astype(float)
        change = better - (generator.random((4, 60)) < 0.3 + easy)
        found = mean_estimate(torch.from_numpy(change), classes, compared=True)
        held.append(found.low <= truth <= found.high)
    assert 0.92 <= np.mean(held) <= 0.995


def test_more_images_and_more_seeds_narrow_the_interval():
    values = (torch.rand(4, 50, generator=torch.Generator().manual_seed(0)) < 0.8).float()
    few, many = (mean_estimate(each, [torch.arange(each.shape[1])]) for each in (values, values.repeat(3, 9)))
    assert many.value == pytest.approx(few.value)
    assert many.high - many.low < 0.5 * (few.high - few.low)
    assert mean_estimate(torch.ones(3, 40), [torch.arange(40)]).high == pytest.approx(1.0)


def test_one_image_of_a_class_is_not_trusted():
    many = torch.arange(1, 101)
    alone = mean_estimate(torch.ones(2, 101), [many, torch.tensor([0])], compared=True)
    assert alone.high - alone.low > 0.2


# What is refused


def test_mistakes_are_named():
    images = blobs([9] * CLASSES, 1)
    with pytest.raises(ValueError, match="pebbles has no labels"):
        usefulness(TensorSource(images.images, name="pebbles"), images, images)
    with pytest.raises(ValueError, match="one shape"):
        usefulness(TensorSource(torch.zeros(4, 1, 8, 8), [0, 1, 2, 3], name="blobs"), images, images)
    with pytest.raises(ValueError, match="no class has two real images"):
        usefulness(images, blobs([1] * CLASSES, 1), images)
    for seeds in ([0], [1, 1]):
        with pytest.raises(ValueError, match="two different seeds"):
            usefulness(images, images, images, seeds=seeds)


def test_what_was_not_tested_has_no_answer(rare):
    with pytest.raises(ValueError, match="one of ant, bee, cat, dog, got 'elk'"):
        rare.answer_for("elk")
    untested = next(number for number, arm in enumerate(rare.arms) if arm.test is None)
    with pytest.raises(ValueError, match="validation images have ruled it out"):
        rare.tested(untested)
