"""FID is the Fréchet distance: its closed forms, its symmetries, and its peers' numbers."""

from __future__ import annotations

import importlib
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_fidelity import metric_fid

from snowmelt.errors import InputError
from snowmelt.evaluation import Features, Moments, is_statistics
from snowmelt.evaluation.metrics import fid, fid_infinity, frechet_distance


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    return Moments(None, np.asarray(mean, dtype=float), np.asarray(covariance, dtype=float))


def drawn(count: int, dimensions: int, seed: int, shift: float = 0.0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(99))
    return Features(torch.randn(count, dimensions, generator=generator) @ mixing + shift)


def rotation(dimensions: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(0).standard_normal((dimensions, dimensions)))[0]


# The closed form


def test_gaussians_that_share_their_axes():
    first, second = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 1.0])
    turn = rotation(3)
    a = gaussian([1, 2, 3], turn @ np.diag(first) @ turn.T)
    b = gaussian([0, 2, 1], turn @ np.diag(second) @ turn.T)
    expected = 5 + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_one_dimension():
    assert frechet_distance(gaussian([3], [[4]]), gaussian([1], [[25]])) == pytest.approx(4 + 9)


def test_two_points_are_as_far_as_their_squared_distance():
    zero = np.zeros((2, 2))
    assert frechet_distance(gaussian([0, 0], zero), gaussian([3, 4], zero)) == pytest.approx(25)


def test_a_point_and_a_gaussian():
    spread = np.diag([1.0, 2.0, 3.0])
    for pair in ((np.zeros((3, 3)), spread), (spread, np.zeros((3, 3)))):
        assert frechet_distance(*(gaussian(np.zeros(3), s) for s in pair)) == pytest.approx(6)


def test_equal_images_are_a_point():
    """Images without any variance, as of a model that always makes the same one."""
    point, spread = Features(torch.full((40, 3), 7.0)), drawn(50, 3, 1)
    shift = (spread.values.double().mean(dim=0) - 7).square().sum()
    expected = float(shift + spread.values.double().var(dim=0).sum())
    for pair in ((point, spread), (spread, point)):
        assert fid(*pair).value == pytest.approx(expected)
    assert fid(point, point).value == 0


def test_singular_covariances_on_different_axes():
    a, b = np.diag([1.0, 4.0, 0.0]), np.diag([0.0, 9.0, 2.0])
    expected = 1 + (2 - 3) ** 2 + 2
    assert frechet_distance(gaussian(np.zeros(3), a), gaussian(np.zeros(3), b)) == pytest.approx(expected)


# Its laws


@pytest.mark.parametrize("count", [500, 20])  # 20 images in 32 dimensions have a singular covariance
def test_of_a_set_and_itself_is_zero(count):
    images = drawn(count, 32, seed=1)
    assert fid(images, images).value == pytest.approx(0, abs=1e-4)


def test_is_symmetric():
    first, second = drawn(300, 8, 1), drawn(200, 8, 2, shift=0.5)
    one, other = fid(first, second), fid(second, first)
    assert one.value == pytest.approx(other.value, rel=1e-9)
    assert one.std == pytest.approx(other.std, rel=1e-4)


def test_rotating_both_changes_nothing_and_scaling_both_scales_its_square():
    first, second = drawn(300, 8, 1), drawn(200, 8, 2, shift=0.5)
    turn = torch.from_numpy(rotation(8))
    turned = [Features(3 * each.values.double() @ turn + 7) for each in (first, second)]
    before, after = fid(first, second), fid(*turned)
    assert after.value == pytest.approx(9 * before.value, rel=1e-6)
    assert after.std == pytest.approx(9 * before.std, rel=1e-4)


@given(
    data=st.integers(0, 2**31),
    dimensions=st.integers(1, 6),
    counts=st.tuples(st.integers(2, 30), st.integers(2, 30)),
)
@settings(max_examples=60, deadline=None)
def test_is_never_negative_and_always_finite(data, dimensions, counts):
    generator = torch.Generator().manual_seed(data)
    result = fid(*(Features(torch.randn(count, dimensions, generator=generator)) for count in counts))
    assert result.value >= -1e-6
    assert math.isfinite(result.std)
    assert result.low <= result.value <= result.high


# Its peers


@pytest.mark.parametrize("dimensions", [4, 64])
def test_equals_torch_fidelity(dimensions):
    first, second = drawn(400, dimensions, 1), drawn(300, dimensions, 2, shift=0.1)
    statistics = [metric_fid.fid_features_to_statistics(each.values) for each in (first, second)]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, False)[metric_fid.KEY_METRIC_FID]
    assert fid(first, second).value == pytest.approx(theirs, rel=1e-4)


def test_equals_clean_fid(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clean_fid = importlib.import_module("cleanfid.fid")
        root = clean_fid.linalg.sqrtm

        def with_error(matrix, disp=True):  # disp=False is unknown to scipy 1.18
            return root(matrix) if disp else (root(matrix), 0.0)

        monkeypatch.setattr(clean_fid.linalg, "sqrtm", with_error)
        first, second = drawn(400, 32, 1), drawn(300, 32, 2, shift=0.1)
        theirs = clean_fid.fid_from_feats(first.values.double().numpy(), second.values.double().numpy())
    assert fid(first, second).value == pytest.approx(theirs, rel=1e-4)


def test_equals_torch_fidelity_with_fewer_images_than_dimensions():
    first, second = drawn(40, 64, 1), drawn(30, 64, 2, shift=0.1)
    statistics = [metric_fid.fid_features_to_statistics(each.values) for each in (first, second)]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, False)[metric_fid.KEY_METRIC_FID]
    assert fid(first, second).value == pytest.approx(theirs, rel=1e-3)
    assert "singular" in fid(first, second).note


# The interval and the bias


@pytest.mark.parametrize(("count", "dimensions", "shift"), [(200, 4, 0.5), (300, 16, 0.2), (150, 16, 0.5)])
def test_interval_holds_the_mean_of_repeated_draws(count, dimensions, shift):
    estimates = [
        fid(drawn(count, dimensions, 2 * i), drawn(count, dimensions, 2 * i + 1, shift=shift))
        for i in range(120)
    ]
    values = np.array([each.value for each in estimates])
    covered = np.mean([each.low <= values.mean() <= each.high for each in estimates])
    assert covered >= 0.88
    assert 0.8 < np.mean([each.std for each in estimates]) / values.std() < 1.6


def test_statistics_alone_give_the_same_value_and_a_narrower_interval():
    generated, real = drawn(3000, 8, 1), drawn(3000, 8, 2, shift=0.3)
    whole, from_file = fid(generated, real), fid(generated, real.moments)
    assert from_file.value == whole.value
    assert from_file.std < whole.std
    assert "fixed" in from_file.note
    assert whole.note == ""


def test_infinity_removes_the_bias_of_few_generated_images():
    real = drawn(20_000, 16, 1)
    few = [
        (fid(g, real).value, fid_infinity(g, real).value) for g in (drawn(320, 16, s) for s in range(2, 22))
    ]
    plain, extrapolated = np.mean(few, axis=0)
    assert plain > 1  # the truth is 0, but for the bias of 20,000 real images
    assert abs(extrapolated) < plain / 5


def test_infinity_does_not_depend_on_the_order_of_classes_much():
    values = torch.cat([drawn(400, 4, 1).values, drawn(400, 4, 2, shift=3.0).values])
    shuffled = values[torch.randperm(800)]
    real = drawn(800, 4, 5)
    one, other = (fid_infinity(Features(each), real) for each in (values, shuffled))
    assert abs(one.value - other.value) < one.std


def test_few_images_are_named():
    assert "only 100 generated images" in fid(drawn(100, 4, 1), drawn(2048, 4, 2)).note
    assert "only 100 generated and 99 real" in fid(drawn(100, 4, 1), drawn(99, 4, 2)).note


# Moments


@given(count=st.integers(1, 40), cuts=st.lists(st.integers(1, 39), max_size=4), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_moments_merge_in_any_split(count, cuts, seed):
    features = 1e3 + torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)).double()
    parts = [part for part in features.tensor_split(sorted(cuts)) if len(part)]
    merged, whole = Moments.merged(map(Moments.of, parts)), Moments.of(features)
    assert merged.count == count
    np.testing.assert_allclose(merged.mean, features.numpy().mean(axis=0))
    np.testing.assert_allclose(merged.covariance, whole.covariance, atol=1e-9)
    if count > 1:
        np.testing.assert_allclose(whole.covariance, np.cov(features.numpy(), rowvar=False), atol=1e-9)


def test_moments_of_more_rows_than_are_converted_at_once():
    features = drawn(10_000, 3, 1).values
    np.testing.assert_allclose(
        Moments.of(features).covariance, np.cov(features.double().numpy(), rowvar=False), rtol=1e-9
    )


def test_moments_are_read_back(tmp_path):
    moments = drawn(50, 4, 1).moments
    moments.save(tmp_path / "new" / "stats.npz")
    found = Moments.load(tmp_path / "new" / "stats.npz")
    assert found.count == 50
    np.testing.assert_array_equal(found.mean, moments.mean)
    np.testing.assert_array_equal(found.covariance, moments.covariance)


def test_statistics_of_others_are_read(tmp_path):
    """pytorch-fid and clean-fid write mu and sigma; guided-diffusion more beside them."""
    features = drawn(50, 4, 1).values.numpy()
    path = tmp_path / "theirs.npz"
    np.savez(path, mu=features.mean(0), sigma=np.cov(features, rowvar=False), mu_s=np.zeros(2))
    found = Moments.load(path)
    assert found.count is None
    result = fid(drawn(60, 4, 2), found)
    assert result.n_real is None
    assert result.value == pytest.approx(fid(drawn(60, 4, 2), drawn(50, 4, 1)).value, rel=1e-4)
    with pytest.raises(ValueError, match="cannot be merged"):
        found + found


@pytest.mark.parametrize(
    "arrays",
    [{}, {"mu": np.zeros(3)}, {"mu": np.zeros(3), "sigma": np.zeros((2, 2))}],
    ids=["", "mu", "shape"],
)
def test_broken_statistics_are_the_inputs_fault(tmp_path, arrays):
    path = tmp_path / "stats.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="sigma"):
        Moments.load(path)


def test_missing_and_damaged_files_are_the_inputs_fault(tmp_path):
    np.savez(tmp_path / "whole.npz", mu=np.zeros(9), sigma=np.eye(9))
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty.npz").touch()
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:500])
    np.savez(tmp_path / "nan.npz", mu=np.full(1, np.nan), sigma=np.eye(1))
    for name in ("none.npz", "text.npz", "empty.npz", "half.npz", "nan.npz"):
        with pytest.raises(InputError, match=name):
            Moments.load(tmp_path / name)
    for name in ("text.npz", "empty.npz", "half.npz"):
        with pytest.raises(InputError, match=name):
            is_statistics(tmp_path / name)
    assert is_statistics(tmp_path / "whole.npz")


# Mistakes


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="at least 2 images"):
        fid(drawn(1, 4, 1), drawn(5, 4, 1))
    with pytest.raises(ValueError, match="5 and 4 features"):
        fid(drawn(9, 5, 1), drawn(9, 4, 1))
    with pytest.raises(ValueError, match="at least 16"):
        fid_infinity(drawn(15, 4, 1), drawn(15, 4, 1))
    with pytest.raises(ValueError, match="NaN or infinity"):
        Features(torch.tensor([[1.0], [math.nan]]))
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        Features(torch.zeros(3, 2, 1))
    with pytest.raises(ValueError, match="3 features have 2 labels"):
        Features(torch.zeros(3, 2), labels=torch.zeros(2))
    with pytest.raises(ValueError, match="no labels"):
        Features(torch.zeros(3, 2)).of_class(0)
