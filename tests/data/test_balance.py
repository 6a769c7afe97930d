"""Each way to balance unequal classes, with counted images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from snowmelt.data.balance import ORDERS, WEIGHTS, Balance, class_weights
from snowmelt.errors import InputError

COUNTS = (300, 30, 3)
LABELS = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))


def shown(sampling: str, epochs: int = 1, labels: torch.Tensor = LABELS, **options: float) -> torch.Tensor:
    """How often each image is shown in some epochs."""
    balance = Balance(sampling, **options)
    orders = [balance.order(labels, Generator().manual_seed(epoch)) for epoch in range(epochs)]
    assert all(len(order) == balance.length(labels) for order in orders)
    return torch.cat(orders).bincount(minlength=len(labels))


def of_classes(times: torch.Tensor) -> list[int]:
    return [int(times[label == LABELS].sum()) for label in range(3)]


def test_without_a_balance_each_image_is_shown_once():
    assert shown("none").tolist() == [1] * len(LABELS)


def test_up_shows_each_class_as_often_as_the_largest_and_each_image_of_it_alike():
    times = shown("up")
    assert of_classes(times) == [300, 300, 300]
    assert [times[label == LABELS].unique().tolist() for label in range(3)] == [[1], [10], [100]]


def test_down_shows_each_class_as_often_as_the_smallest_and_other_images_in_every_epoch():
    assert of_classes(shown("down")) == [3, 3, 3]
    times = shown("down", epochs=40)
    assert of_classes(times) == [120, 120, 120]
    assert int((times[:300] > 0).sum()) > 60  # 120 draws of 300 meet 99 of them


@pytest.mark.parametrize(("sampling", "beta"), [("inverse", 0.0), ("effective", 0.0), ("effective", 0.99)])
def test_draws_are_as_frequent_as_their_weights(sampling, beta):
    epochs = 30
    found = torch.tensor(of_classes(shown(sampling, epochs, beta=beta)), dtype=torch.float64)
    expected = class_weights(torch.tensor(COUNTS), sampling, beta) * torch.tensor(COUNTS) * epochs
    spread = expected.sqrt()  # a sum of many rare draws
    assert ((found - expected).abs() < 5 * spread).all()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20).filter(any), st.floats(0, 0.9999))
def test_the_mean_weight_of_an_image_is_one_and_rare_images_count_more(counts, beta):
    counts = torch.tensor(counts)
    for name in WEIGHTS:
        weights = class_weights(counts, name, beta)
        torch.testing.assert_close((weights * counts).sum(), counts.sum().double())
        there = counts > 0
        rising = weights[there][counts[there].argsort()]
        assert (rising.diff() <= 1e-9 * rising[:-1]).all()
        assert (weights[~there] == 0).all()


def test_effective_numbers_lie_between_no_balance_and_the_inverse():
    counts = torch.tensor(COUNTS)
    torch.testing.assert_close(class_weights(counts, "effective", 0.0), torch.ones(3).double())
    nearly = class_weights(counts, "effective", 1 - 1e-9)
    torch.testing.assert_close(nearly, class_weights(counts, "inverse", 0.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("sampling", ORDERS)
def test_labels_without_images_are_never_shown(sampling):
    labels = torch.tensor([0, 0, 3, 3, 3])
    assert set(shown(sampling, 3, labels).nonzero().flatten().tolist()) <= set(range(5))
    assert Balance(sampling).length(labels) in (4, 5, 6)


def test_unknown_words_are_refused():
    with pytest.raises(InputError, match="one of none, inverse, effective, up, down, got 'over'"):
        Balance("over")
    with pytest.raises(InputError, match=r"beta must lie in \[0, 1\), got 1.0"):
        Balance("effective", beta=1.0)
