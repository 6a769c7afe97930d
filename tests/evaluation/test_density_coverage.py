"""Density and coverage: known answers, their expectation for equal sets, their robustness, their interval."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snowmelt.evaluation import Features
from snowmelt.evaluation.metrics import coverage, density, density_coverage


def drawn(count: int, seed: int, shift: float = 0.0, dimensions: int = 6) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(torch.randn(count, dimensions, generator=generator) + shift)


def by_definition(generated: Features, real: Features, k: int) -> tuple[float, float]:
    """Naeem et al. 2020, equations 4 and 6."""
    y, x = generated.values.double(), real.values.double()
    reach = torch.cdist(x, x).kthvalue(k + 1).values
    inside = torch.cdist(y, x) <= reach
    return float(inside.sum() / (k * len(y))), float(inside.any(dim=0).double().mean())


@pytest.mark.parametrize("k", [1, 5])
def test_are_their_definition(k):
    generated, real = drawn(80, 1, shift=0.3), drawn(100, 2)
    found = density_coverage(generated, real, k=k)
    assert [each.value for each in found] == pytest.approx(by_definition(generated, real, k))


def test_of_equal_distributions_are_one_and_the_closed_form():
    """Naeem et al. 2020, lemma 2: E coverage = 1 - (N - 1)...(N - k) / ((2N - 1)...(2N - k)) for N and N."""
    count, k = 400, 5
    found = [density_coverage(drawn(count, 2 * i), drawn(count, 2 * i + 1), k=k) for i in range(12)]
    dense, covered = np.mean([[each.value for each in pair] for pair in found], axis=0)
    expected = 1 - np.prod([(count - i) / (2 * count - i) for i in range(1, k + 1)])
    assert dense == pytest.approx(1, abs=0.03)
    assert covered == pytest.approx(expected, abs=0.01)


def test_crowding_raises_density_and_lowers_coverage():
    """Ten points on a line, balls of radius 1: what lies between two points lies in two balls."""
    real = Features(torch.arange(10.0)[:, None])
    crowded, spread = torch.full((10, 1), 4.5), torch.arange(10.0)[:, None] + 0.5
    assert [each.value for each in density_coverage(Features(crowded), real, k=1)] == [2.0, 0.2]
    # The last one, at 9.5, lies in one ball alone
    assert [each.value for each in density_coverage(Features(spread), real, k=1)] == [1.9, 1.0]


def test_an_outlier_among_the_generated_changes_little():
    real, generated = drawn(300, 1), drawn(299, 2)
    with_outlier = Features(torch.cat([generated.values, torch.full((1, 6), 1e3)]))
    for metric in (density, coverage):
        plain, disturbed = metric(generated, real), metric(with_outlier, real)
        assert disturbed.value == pytest.approx(plain.value, rel=0.01)


def test_far_apart():
    assert [each.value for each in density_coverage(drawn(50, 1), drawn(50, 2, shift=50.0))] == [0, 0]


def test_moving_rotating_and_scaling_both_changes_nothing():
    first, second = drawn(150, 1), drawn(120, 2, shift=0.5)
    turn = torch.linalg.qr(torch.randn(6, 6)).Q
    moved = [Features(5 * each.values @ turn + 30) for each in (first, second)]
    for one, other in zip(density_coverage(*moved), density_coverage(first, second), strict=True):
        assert one.value == pytest.approx(other.value)


def test_block_sizes_change_nothing():
    first, second = drawn(90, 1), drawn(70, 2, shift=0.5)
    assert density_coverage(first, Features(second.values), memory=5000) == density_coverage(first, second)


@pytest.mark.parametrize(("metric", "shift"), [(density, 0.6), (coverage, 1.0)])
def test_interval_holds_the_mean_of_repeated_draws(metric, shift):
    estimates = [
        metric(drawn(100, 2 * i, dimensions=4), drawn(100, 2 * i + 1, shift=shift, dimensions=4))
        for i in range(100)
    ]
    values = np.array([each.value for each in estimates])
    assert np.mean([each.low <= values.mean() <= each.high for each in estimates]) >= 0.88
    assert 0.8 < np.mean([each.std for each in estimates]) / values.std() < 1.6


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="too few for their 5-th"):
        density(drawn(9, 1), drawn(5, 1))
    with pytest.raises(ValueError, match="got none"):
        coverage(drawn(0, 1), drawn(9, 1))
