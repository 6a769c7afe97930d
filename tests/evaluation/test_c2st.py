"""Can one tell: what the classifier two-sample test must read where the answer is known."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch

from snowmelt.evaluation import Features
from snowmelt.evaluation.metrics import c2st


def drawn(count, dim=4, shift=0.0, labels=None):
    values = torch.randn(count, dim)
    values[:, 0] += shift
    return Features(values, labels)


def test_sets_of_one_distribution_cannot_be_told_apart():
    found = [c2st(drawn(60), drawn(60), divisions=1) for _ in range(60)]
    assert sum(each.low <= 0.5 <= each.high for each in found) >= 54
    assert abs(sum(each.value for each in found) / 60 - 0.5) < 0.02


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_it_reads_the_best_accuracy_that_there_is(shift):
    """Two normal distributions at a distance d are told apart in Phi(d / 2) of the cases at best."""
    found = c2st(drawn(3000), drawn(3000, shift=shift), divisions=1)
    assert found.low - 0.01 <= NormalDist().cdf(shift / 2) <= found.high + 0.01


def test_the_share_of_a_class_is_no_tell():
    """The classes differ and their shares do, and within a class generated and real are alike."""

    def with_shares(first, second):
        labels = torch.tensor([0] * first + [1] * second)
        values = torch.randn(first + second, 4) + 5 * labels[:, None]
        return values, labels

    (generated, ours), (real, theirs) = with_shares(300, 60), with_shares(60, 300)
    fair = c2st(Features(generated, ours), Features(real, theirs))
    assert (fair.n_generated, fair.n_real) == (120, 120)
    assert fair.low <= 0.5 <= fair.high
    assert c2st(Features(generated), Features(real)).value > 0.8  # without labels, it is one


def test_the_larger_set_is_cut():
    found = c2st(drawn(300), drawn(50))
    assert (found.n_generated, found.n_real) == (50, 50)
    assert "of 100 images, a share below 0.61 cannot be told from 0.50" in found.note


def test_too_few_images():
    with pytest.raises(ValueError, match="at least 5 images of each set"):
        c2st(drawn(4), drawn(100))
