"""The inception score: its bounds, its peer's numbers, its interval."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_fidelity import metric_isc

from snowmelt.evaluation import Features
from snowmelt.evaluation.metrics import inception_score


def from_logits(logits: Tensor) -> Features:
    return Features(logits, probabilities=logits.double().softmax(dim=1))


def logits(count: int, classes: int = 10, seed: int = 0) -> Tensor:
    return 3 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))


def test_equals_torch_fidelity():
    given_logits = logits(500)
    theirs = metric_isc.isc_features_to_metric(given_logits, splits=1)[metric_isc.KEY_METRIC_ISC_MEAN]
    assert inception_score(from_logits(given_logits), splits=1).value == pytest.approx(theirs, rel=1e-9)


def test_equals_torch_fidelity_in_ten_parts_within_their_spread():
    given_logits = logits(2000)
    theirs = metric_isc.isc_features_to_metric(given_logits)
    ours = inception_score(from_logits(given_logits)).value
    spread = theirs[metric_isc.KEY_METRIC_ISC_STD]
    assert abs(ours - theirs[metric_isc.KEY_METRIC_ISC_MEAN]) < spread


@given(seed=st.integers(0, 2**31), count=st.integers(1, 50), classes=st.integers(2, 8))
@settings(max_examples=50, deadline=None)
def test_lies_between_one_and_the_number_of_classes(seed, count, classes):
    score = inception_score(from_logits(logits(count, classes, seed))).value
    assert 1 - 1e-9 <= score <= classes + 1e-9


def test_its_extremes():
    unsure = torch.full((40, 5), 0.2)
    same = torch.eye(5)[:1].repeat(40, 1)
    for probabilities in (unsure, same):
        result = inception_score(Features(probabilities, probabilities=probabilities))
        assert result.value == pytest.approx(1)
        assert result.n_real is None


def test_classes_may_be_renamed():
    given_logits = logits(100)
    one, other = (inception_score(from_logits(each)) for each in (given_logits, given_logits.flip(1)))
    assert one.value == pytest.approx(other.value)


def test_interval_holds_the_mean_of_repeated_draws():
    estimates = [inception_score(from_logits(logits(300, seed=i)), splits=1) for i in range(200)]
    values = np.array([each.value for each in estimates])
    assert np.mean([each.low <= values.mean() <= each.high for each in estimates]) >= 0.9
    assert 0.85 < np.mean([each.std for each in estimates]) / values.std() < 1.2


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="class probabilities"):
        inception_score(Features(torch.zeros(5, 2)))
    with pytest.raises(ValueError, match="splits"):
        inception_score(from_logits(logits(5)), splits=0)
    with pytest.raises(ValueError, match="got none"):
        inception_score(from_logits(logits(0)))
