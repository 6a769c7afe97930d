"""Each way to balance unequal classes, with counted images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Generator

from snowmelt import create_model
from snowmelt.config import Config
from snowmelt.data.balance import ORDERS, WEIGHTS, Balance, class_weights
from snowmelt.errors import InputError
from snowmelt.training import denoising_loss
from snowmelt.training.run import TrainingRun

TINY = {"image_size": 8, "in_channels": 1, "model_channels": 8, "channel_multipliers": [1], "norm_groups": 4}
COUNTS = (300, 30, 3)
LABELS = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))


def unequal(folder: Path) -> Path:
    """Six black and two white images."""
    for name, count, colour in (("black", 6, 0), ("white", 2, 255)):
        (folder / name).mkdir(exist_ok=True)
        for i in range(count):
            Image.new("L", (8, 8), colour).save(folder / name / f"{i}.png")
    return folder


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
    with pytest.raises(
        InputError, match="sampling must be one of none, inverse, effective, up, down, got 'over'"
    ):
        Balance("over")
    with pytest.raises(InputError, match="weights must be one of none, inverse, effective, got 'up'"):
        Balance(weights="up")
    with pytest.raises(InputError, match=r"beta must lie in \[0, 1\), got 1.0"):
        Balance("effective", beta=1.0)


@pytest.mark.parametrize("sampling", sorted(ORDERS.keys() - {"none"}))
@pytest.mark.parametrize("weights", WEIGHTS)
def test_balancing_twice_is_refused(sampling, weights):
    with pytest.raises(InputError, match="which together balance twice: set one of them to none"):
        Balance(sampling, weights)


def test_a_weighted_loss_is_that_of_images_as_often_as_their_weight():
    """Class 0 has one image, class 1 three: inverse weights count the one like the three together."""
    model = create_model(**TINY, num_classes=2, schedule="cosine")
    labels, generator = torch.tensor([0, 1, 1, 1]), Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    x0, eps = torch.randn(2, 4, 1, 8, 8, generator=generator)
    t = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)
    often = [0, 0, 0, 1, 2, 3]
    repeated = denoising_loss(model, x0[often], labels[often], t=t[often], eps=eps[often])
    weights = Balance(weights="inverse").of_classes(labels)
    weighted = denoising_loss(model, x0, labels, t=t, eps=eps, importance=weights[labels])
    torch.testing.assert_close(weighted, repeated)
    assert not torch.isclose(weighted, denoising_loss(model, x0, labels, t=t, eps=eps))


def test_a_run_counts_and_shows_its_images_as_its_file_says(tmp_path):
    def loss(**balance: object) -> tuple[float, int]:
        settings = {
            "mode": "train",
            "compute": {"precision": "fp32"},
            "model": {"architecture": TINY, "conditioning": {"num_classes": 2}},
            "data": {
                "paths": {"train": str(unequal(tmp_path))},
                "loading": {"batch_size": 8, "cache": "none"},
                "balance": balance,
            },
        }
        trainer = TrainingRun(Config.model_validate(settings), torch.device("cpu")).trainer
        return trainer.train(num_epochs=1)["train_loss"], trainer.progress.images

    plain, images = loss()
    assert images == 8
    assert loss(weights="inverse")[0] != plain
    assert loss(sampling="up")[1] == 12
    assert loss(sampling="down")[1] == 4
