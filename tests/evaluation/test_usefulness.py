"""Usefulness: what classifiers learn from true, false and additional images, and how sure the answer is."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from snowmelt.evaluation import TensorSource
from snowmelt.evaluation.answers import usefulness as module
from snowmelt.evaluation.answers.usefulness import Usefulness, usefulness

CLASSES, STEPS = 4, 40
NAMES = ["ant", "bee", "cat", "dog"]


def blobs(counts: list[int], seed: int, noise: float = 0.5, name: str = "blobs") -> TensorSource:
    """Images 4x4 whose bright corner is the class, under noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images = noise * torch.randn(len(labels), 1, 4, 4, generator=generator) - 0.5
    for image, label in zip(images, labels.tolist(), strict=True):
        down, right = 2 * (label // 2), 2 * (label % 2)
        image[:, down : down + 2, right : right + 2] += 1.0
    return TensorSource(images.clamp(-1, 1), labels, NAMES, name)


def relabelled(source: TensorSource) -> TensorSource:
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(5))
    return TensorSource(source.images, source.labels[order], NAMES)


def asked(generated: TensorSource, real: TensorSource, seeds: int = 2) -> Usefulness:
    return usefulness(generated, real, blobs([40] * CLASSES, 99), seeds=range(seeds), steps=STEPS)


@pytest.fixture(scope="module")
def rare() -> Usefulness:
    """Two real images of the last class, a hundred of the others; generated ones of the last."""
    return asked(blobs([0, 0, 0, 100], 1), blobs([100, 100, 100, 2], 2), seeds=4)


# What is learned


def test_true_images_teach_everything_and_shuffled_labels_nothing():
    real = blobs([60] * CLASSES, 3)
    true, shuffled = (
        asked(made, real) for made in (blobs([60] * CLASSES, 4), relabelled(blobs([60] * CLASSES, 4)))
    )
    assert true.accuracy["generated"].overall.value > 0.97
    assert shuffled.accuracy["generated"].overall.value == pytest.approx(1 / CLASSES, abs=0.2)
    assert true.accuracy["real"] == shuffled.accuracy["real"]  # the same trainings


def test_a_rare_class_is_helped(rare):
    assert rare.rarest == "dog"
    gain = rare.gain.per_class["dog"]
    assert gain.low > 0
    assert rare.answer().startswith("Yes: with 100 generated images beside its 2 real ones, class dog")
    assert f"{100 * gain.value:+.1f} points" in rare.answer()
    for name in NAMES:
        real, both = (rare.accuracy[which].per_class[name].value for which in ("real", "both"))
        assert rare.gain.per_class[name].value == pytest.approx(both - real, abs=1e-6)


def test_harm_is_called_harm():
    real = blobs([60] * CLASSES, 3)
    wrong = blobs([0, 0, 0, 400], 4)
    wrong = TensorSource(wrong.images, torch.zeros(400, dtype=torch.int64), NAMES)
    assert asked(wrong, real).answer("dog").startswith("No: ")


def test_where_nothing_changes_nothing_is_claimed():
    real = blobs([60] * CLASSES, 3, noise=0.1)
    result = asked(blobs([60] * CLASSES, 4, noise=0.1), real)
    gain = result.gain.per_class["ant"]
    assert gain.value == gain.std == 0
    assert gain.low < 0 < gain.high  # forty images cannot rule out what one in forty would show
    assert result.answer("ant").startswith("Unclear: ")


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (0.1, 0.2, 0.3, "Yes"),
        (-0.1, 0.1, 0.3, "Unclear"),
        (-0.3, -0.1, 0.1, "Unclear"),
        (-0.3, -0.2, -0.1, "No"),
    ],
)
def test_a_gain_that_may_be_chance_is_no_answer(rare, low, value, high, verdict):
    gain = replace(rare.gain.per_class["dog"], low=low, value=value, high=high)
    result = replace(rare, gain=replace(rare.gain, per_class={"dog": gain}))
    assert result.answer().startswith(f"{verdict}: ")


def test_the_parts_add_up_to_the_whole(rare):
    for which in rare.accuracy.values():
        parts = [each.value * each.n_real for each in which.per_class.values()]
        assert sum(parts) / 160 == pytest.approx(which.overall.value)


def test_the_result_is_plain_values(rare):
    values = json.loads(json.dumps(rare.to_dict()))
    assert values["real_images"] == dict(zip(NAMES, [100, 100, 100, 2], strict=True))
    assert (
        values["accuracy"]["both"]["per_class"]["bee"]["value"]
        == rare.accuracy["both"].per_class["bee"].value
    )
    assert values["answer"] == rare.answer()


# How sure


def test_an_interval_over_seeds_alone_is_students():
    """All images agree, so that the seeds alone vary: scipy's interval of their mean."""
    by_seed = np.array([0.1, 0.3, 0.2, 0.6])
    found = module._difference(torch.from_numpy(by_seed)[:, None].expand(-1, 50), 0)
    expected = stats.t.interval(0.95, 3, by_seed.mean(), stats.sem(by_seed))
    assert (found.low, found.high) == pytest.approx(expected)


def test_the_interval_holds_the_truth():
    """Images and seeds of varying difficulty, drawn again and again."""
    generator = np.random.default_rng(0)
    held, truth = [], 0.1
    for _ in range(300):
        easy = generator.normal(0, 0.15, 60)
        lucky = generator.normal(0, 0.05, 4)[:, None]
        change = truth + easy + lucky + generator.normal(0, 0.1, (4, 60))
        result = module._difference(torch.from_numpy(change), 0)
        held.append(result.low <= truth <= result.high)
    assert 0.92 <= np.mean(held) <= 0.995


def test_more_images_and_more_seeds_narrow_the_interval():
    values = (torch.rand(4, 50, generator=torch.Generator().manual_seed(0)) < 0.8).float()
    few, many = (module._share(each, 0) for each in (values, values.repeat(3, 9)))
    assert many.value == pytest.approx(few.value)
    assert many.high - many.low < 0.5 * (few.high - few.low)
    assert math.isclose(module._share(torch.ones(3, 40), 0).high, 1.0)


# What is refused


def test_mistakes_are_named():
    images = blobs([9] * CLASSES, 1)
    with pytest.raises(ValueError, match="pebbles has no labels"):
        usefulness(TensorSource(images.images, name="pebbles"), images, images)
    with pytest.raises(ValueError, match="one shape"):
        usefulness(TensorSource(torch.zeros(4, 1, 8, 8), [0, 1, 2, 3], name="blobs"), images, images)
    for seeds in ([0], [1, 1]):
        with pytest.raises(ValueError, match="two different seeds"):
            usefulness(images, images, images, seeds=seeds)


def test_a_class_that_was_not_tested_has_no_answer(rare):
    with pytest.raises(ValueError, match="one of ant, bee, cat, dog, got 'elk'"):
        rare.answer("elk")
