"""Precision and recall: toy sets with known answers, the swap of roles, the peer's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_fidelity import metric_prc

from snowmelt.evaluation import Features
from snowmelt.evaluation.metrics import precision, recall
from snowmelt.evaluation.metrics.neighbours import balls, radii


def drawn(count: int, seed: int, shift: float = 0.0, dimensions: int = 6) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(torch.randn(count, dimensions, generator=generator) + shift)


def line(*points: float) -> Features:
    return Features(torch.tensor(points, dtype=torch.float32)[:, None])


# Known answers


def test_points_on_a_line():
    real = line(*range(20))  # the second neighbour is one away, of the ends two away
    inside, outside = line(-2.0, -1.5, 5.5, 20.9), line(-2.1, 21.1, 100.0)
    assert precision(inside, real, k=2).value == 1
    assert precision(outside, real, k=2).value == 0


def test_a_dropped_mode_costs_recall_and_an_invented_one_precision():
    left, right = drawn(300, 1), drawn(300, 2, shift=100.0)
    both = Features(torch.cat([left.values, right.values]))
    assert precision(left, both).value > 0.9
    assert recall(left, both).value == pytest.approx(0.5, abs=0.03)
    assert precision(both, left).value == pytest.approx(0.5, abs=0.03)
    assert recall(both, left).value > 0.9


def test_a_set_and_itself():
    images = drawn(100, 1)
    assert precision(images, images).value == recall(images, images).value == 1


def test_far_apart():
    assert precision(drawn(50, 1), drawn(50, 2, shift=50.0)).value == 0
    assert recall(drawn(50, 1), drawn(50, 2, shift=50.0)).value == 0


def test_copies_of_one_image_are_on_a_manifold_of_radius_zero():
    real = Features(torch.full((30, 4), 3.3))
    generated = Features(torch.tensor([[3.3] * 4, [3.4] * 4]))
    assert precision(generated, real).value == 0.5


# Laws


def test_recall_is_precision_with_the_roles_swapped():
    first, second = drawn(150, 1), drawn(120, 2, shift=0.5)
    assert recall(first, second).value == precision(second, first).value
    assert recall(first, second).std == precision(second, first).std


@given(
    seed=st.integers(0, 2**31), counts=st.tuples(st.integers(12, 40), st.integers(1, 40)), k=st.integers(1, 5)
)
@settings(max_examples=15, deadline=None)
def test_a_larger_k_never_has_less_on_the_manifold(seed, counts, k):
    real, generated = drawn(counts[0], seed, dimensions=2), drawn(counts[1], seed + 1, dimensions=2)
    values = [precision(generated, real, k=each).value for each in (k, k + 1)]
    assert 0 <= values[0] <= values[1] <= 1


def test_moving_rotating_and_scaling_both_changes_nothing():
    first, second = drawn(150, 1), drawn(120, 2, shift=0.5)
    turn = torch.linalg.qr(torch.randn(6, 6)).Q
    moved = [Features(5 * each.values @ turn + 30) for each in (first, second)]
    assert precision(*moved).value == precision(first, second).value
    assert recall(*moved).value == recall(first, second).value


@pytest.mark.parametrize("k", [1, 3, 7])
def test_equals_torch_fidelity(k):
    first, second = drawn(300, 1, dimensions=32), drawn(250, 2, shift=0.1, dimensions=32)
    theirs = metric_prc.prc_features_to_metric(
        first.values, second.values, prc_neighborhood=k, prc_batch_size=1000, verbose=False
    )
    assert precision(first, second, k=k).value == pytest.approx(theirs["precision"], abs=1e-6)
    assert recall(first, second, k=k).value == pytest.approx(theirs["recall"], abs=1e-6)


@pytest.mark.parametrize(("memory", "counts"), [(1, (16, 14)), (10_000, (45, 35)), (200_000, (45, 35))])
def test_block_sizes_change_nothing(memory, counts):
    first, second = drawn(counts[0], 1), drawn(counts[1], 2, shift=0.5)
    whole, blocks = (
        balls(Features(first.values), Features(second.values), 3, memory=m) for m in (2**30, memory)
    )
    for name in ("counts", "filled", "filled_by"):
        assert torch.equal(getattr(whole, name), getattr(blocks, name))
    assert precision(first, Features(second.values), memory=memory) == precision(first, second)


# The neighbours without a group, by brute force


def test_radii_are_the_distances_to_the_kth_neighbour_among_the_others():
    features = drawn(60, 1)
    found, k = radii(features, 4), 4
    groups = balls(features, features, k).centre_groups
    distances = torch.cdist(features.values, features.values).square().fill_diagonal_(torch.inf)
    torch.testing.assert_close(found[0], distances.kthvalue(k).values)
    for group in range(10):
        among = distances[:, groups != group]
        torch.testing.assert_close(found[group + 1], among.kthvalue(k).values)


def test_balls_without_a_group_are_those_of_the_other_centres():
    points, centres = drawn(50, 1), drawn(60, 2)
    found = balls(points, centres, 3)
    for group in (0, 7):
        left = centres.values[found.centre_groups != group]
        reach = torch.cdist(left, left).kthvalue(4).values
        inside = torch.cdist(points.values, left) <= reach
        assert torch.equal(found.counts[group + 1], inside.sum(dim=1).int())
        assert torch.equal(found.filled[group + 1][found.centre_groups != group], inside.any(dim=0))
        assert not found.filled[group + 1][found.centre_groups == group].any()


# The interval


def test_interval_holds_the_mean_of_repeated_draws():
    estimates = [
        precision(drawn(100, 2 * i, dimensions=4), drawn(100, 2 * i + 1, shift=0.6, dimensions=4))
        for i in range(100)
    ]
    values = np.array([each.value for each in estimates])
    assert np.mean([each.low <= values.mean() <= each.high for each in estimates]) >= 0.88
    assert 0.8 < np.mean([each.std for each in estimates]) / values.std() < 1.6


def test_an_interval_has_a_width_even_where_all_agree():
    images = drawn(100, 1)
    result = precision(images, images)
    assert result.high == 1
    assert 0.9 < result.low < 1


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="too few for their 3-th neighbours: give at least 5"):
        precision(drawn(9, 1), drawn(4, 1))
    assert precision(drawn(9, 1), drawn(5, 1)).value >= 0
    with pytest.raises(ValueError, match="0-th"):
        precision(drawn(9, 1), drawn(9, 1), k=0)
    with pytest.raises(ValueError, match="empty"):
        precision(drawn(0, 1), drawn(9, 1))
    with pytest.raises(ValueError, match="6 and 5 features"):
        precision(drawn(9, 1), drawn(9, 1, dimensions=5))
