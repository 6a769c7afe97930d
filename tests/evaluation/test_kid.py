"""KID is an unbiased squared discrepancy: its definition, its peers' numbers, its interval."""

from __future__ import annotations

import importlib
import re
import warnings

import numpy as np
import pytest
import torch
from torch_fidelity import metric_kid

from snowmelt.evaluation import Features
from snowmelt.evaluation.metrics import kid


def drawn(count: int, seed: int, shift: float = 0.0, dimensions: int = 8) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(torch.randn(count, dimensions, generator=generator) + shift)


def by_definition(x: torch.Tensor, y: torch.Tensor) -> float:
    """The three means, pair by pair."""

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return (float(a @ b) / len(a) + 1) ** 3

    def among(z: torch.Tensor) -> float:
        return float(np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]))

    return among(x) + among(y) - 2 * float(np.mean([kernel(a, b) for a in x for b in y]))


def test_is_its_definition():
    first, second = drawn(12, 1), drawn(12, 2, shift=0.5)
    assert kid(first, second).value == pytest.approx(by_definition(first.values, second.values), rel=1e-4)


def test_equals_torch_fidelity_on_whole_sets():
    first, second = drawn(200, 1), drawn(200, 2, shift=0.5)
    theirs = metric_kid.kid_features_to_metric(
        first.values, second.values, kid_subset_size=200, kid_subsets=1, verbose=False
    )
    assert kid(first, second).value == pytest.approx(theirs[metric_kid.KEY_METRIC_KID_MEAN], rel=1e-5)


def test_equals_torch_fidelity_within_its_spread():
    first, second = drawn(1500, 1, dimensions=32), drawn(1200, 2, shift=0.2, dimensions=32)
    theirs = metric_kid.kid_features_to_metric(
        first.values, second.values, kid_subset_size=500, kid_subsets=50, verbose=False
    )
    ours = kid(first, second, subset_size=500, subsets=50)
    spread = theirs[metric_kid.KEY_METRIC_KID_STD]
    assert abs(ours.value - theirs[metric_kid.KEY_METRIC_KID_MEAN]) < spread
    stated = re.search(r"which spread by (\S+?)(;|$)", ours.note)
    assert float(stated[1]) == pytest.approx(spread, rel=0.3)


def test_equals_clean_fid_within_its_spread(monkeypatch):
    """Clean-fid draws its subsets from numpy's global generator; its loop over them is the reference's."""
    first, second = drawn(600, 1), drawn(500, 2, shift=0.4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clean_fid = importlib.import_module("cleanfid.fid")
    np.random.seed(0)
    theirs = clean_fid.kernel_distance(first.values.numpy(), second.values.numpy(), num_subsets=50)
    ours = kid(first, second, subsets=50)
    assert ours.value == pytest.approx(theirs, abs=2 * ours.std)


def test_is_without_bias():
    values = [kid(drawn(30, 2 * i), drawn(30, 2 * i + 1)).value for i in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0


def test_roles_may_be_swapped_and_features_rotated():
    first, second = drawn(100, 1), drawn(100, 2, shift=0.5)
    turn = torch.linalg.qr(torch.randn(8, 8)).Q
    turned = [Features(each.values @ turn) for each in (first, second)]
    for pair in ((second, first), turned):
        assert kid(*pair).value == pytest.approx(kid(first, second).value, rel=1e-4)
        assert kid(*pair).std == pytest.approx(kid(first, second).std, rel=1e-4)


def test_is_the_same_each_time():
    first, second = drawn(300, 1), drawn(200, 2)
    assert kid(first, second, subset_size=50) == kid(first, second, subset_size=50)


def expected_kernel(a: float, b: float, dimensions: int = 8) -> float:
    """E (x . y / D + 1)^3 of Gaussians with means (a, ..., a) and (b, ..., b) and unit variances.

    Given x, x . y is Gaussian with mean x . b and variance |x|^2; the moments of x do the rest.
    """
    product, first, second = dimensions * a * b, dimensions * a**2, dimensions * b**2
    square = product**2 + first + second + dimensions
    cube = product**3 + 3 * product * (first + second + dimensions + 2)
    return cube / dimensions**3 + 3 * square / dimensions**2 + 3 * product / dimensions + 1


@pytest.mark.parametrize(("count", "size"), [(200, 1000), (200, 50)])
def test_interval_holds_the_truth_in_repeated_draws(count, size):
    estimates = [
        kid(drawn(count, 2 * i), drawn(count, 2 * i + 1, shift=0.3), subsets=10, subset_size=size)
        for i in range(120)
    ]
    values = np.array([each.value for each in estimates])
    truth = expected_kernel(0, 0) + expected_kernel(0.3, 0.3) - 2 * expected_kernel(0, 0.3)
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(len(values))
    assert np.mean([each.low <= truth <= each.high for each in estimates]) >= 0.88
    assert 0.8 < np.mean([each.std for each in estimates]) / values.std() < 1.5


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="two images"):
        kid(drawn(1, 1), drawn(5, 1))
    with pytest.raises(ValueError, match="0 subsets"):
        kid(drawn(5, 1), drawn(5, 1), subsets=0)
    with pytest.raises(ValueError, match="8 and 4 features"):
        kid(drawn(5, 1), drawn(5, 1, dimensions=4))
