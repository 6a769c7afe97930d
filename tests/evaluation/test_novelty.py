"""Novelty: planted copies and duplicates are found, and honest draws are not accused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt.evaluation import Features, TensorSource
from snowmelt.evaluation.answers.nearest import nearest, nearest_twins
from snowmelt.evaluation.answers.novelty import novelty
from snowmelt.evaluation.drawing import draw_closest_pairs


def drawn(count: int, seed: int, shift: float = 0.0, dimensions: int = 5) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(torch.randn(count, dimensions, generator=generator) + shift)


def joined(*parts: torch.Tensor) -> Features:
    return Features(torch.cat(parts))


# Neighbours


BLOCKS = [(1, 15), (20_000, 90), (2**28, 90)]  # bytes that a block may take, and how many images there are


@pytest.mark.parametrize(("memory", "count"), BLOCKS)
@pytest.mark.parametrize("k", [1, 4])
def test_neighbours_are_those_of_brute_force_in_blocks_of_any_size(memory, count, k):
    images, among = drawn(count - 5, 1), drawn(count, 2)
    found = nearest(images, among, k, memory=memory)
    expected = torch.cdist(images.values, among.values).topk(k, largest=False)
    torch.testing.assert_close(found.distances, expected.values)
    assert torch.equal(found.indices, expected.indices)


@pytest.mark.parametrize(("memory", "count"), BLOCKS)
def test_twins_are_the_nearest_others(memory, count):
    images = drawn(count, 1)
    distances = torch.cdist(images.values, images.values).fill_diagonal_(torch.inf)
    assert torch.equal(nearest_twins(images, memory=memory).indices[:, 0], distances.argmin(dim=1))


def test_equal_images_are_at_distance_zero_wherever_they_lie():
    among = drawn(200, 1, shift=1000.0, dimensions=300)
    found = nearest(Features(among.values[50:60]), among)
    assert found.indices[:, 0].tolist() == list(range(50, 60))
    assert found.distances.abs().max() == 0
    copies = joined(among.values[:3], among.values[:3])
    assert nearest_twins(copies).distances.abs().max() == 0
    assert nearest_twins(copies).indices[:, 0].tolist() == [3, 4, 5, 0, 1, 2]


# Copies


def test_planted_copies_are_found_with_their_rate():
    training, held_out = drawn(600, 1), drawn(400, 2)
    far = drawn(80, 3, shift=50.0)
    copies = training.values[[7, 300, 599]] + 1e-4
    result = novelty(joined(far.values, copies), training, held_out)
    assert sorted(result.copies()) == [(80, 7), (81, 300), (82, 599)]
    assert result.copy_rate.value == pytest.approx(3 / 83)
    assert result.copy_rate.low < 3 / 83 < result.copy_rate.high
    assert result.nearest[80:].tolist() == [7, 300, 599]


def test_images_like_the_held_out_ones_are_copies_about_as_often():
    training, quantile = drawn(800, 1), 0.05
    results = [
        novelty(drawn(400, 2 * i + 2), training, drawn(400, 2 * i + 3), quantile=quantile) for i in range(40)
    ]
    rates = [result.copy_rate for result in results]
    assert np.mean([rate.value for rate in rates]) == pytest.approx(quantile, abs=0.01)
    assert np.mean([rate.low <= quantile <= rate.high for rate in rates]) >= 0.85
    assert all(result.held_out_rate.value == pytest.approx(quantile, abs=0.003) for result in results)


def test_no_copies_is_not_certainty():
    result = novelty(drawn(300, 3, shift=50.0), drawn(600, 1), drawn(400, 2))
    assert result.copies() == []
    assert result.copy_rate.value == result.copy_rate.low == 0
    assert 0 < result.copy_rate.high < 0.05


def test_a_lower_quantile_finds_no_more_copies():
    sets = drawn(300, 3), drawn(600, 1), drawn(400, 2)
    few, many = (set(novelty(*sets, quantile=quantile).copies()) for quantile in (0.01, 0.2))
    assert few < many


def test_moving_rotating_and_scaling_all_changes_no_verdict():
    sets = drawn(300, 3), drawn(600, 1), drawn(400, 2)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    moved = [Features(3 * each.values.double() @ turn + 7) for each in sets]
    here, there = (
        novelty(*each, quantile=0.1) for each in ([Features(s.values.double()) for s in sets], moved)
    )
    torch.testing.assert_close(3 * here.distances, there.distances)
    assert (here.copies(), here.duplicates()) == (there.copies(), there.duplicates())
    assert there.threshold == pytest.approx(3 * here.threshold)


# Duplicates


def test_planted_duplicates_are_found():
    training, held_out = drawn(600, 1), drawn(400, 2)
    lonely = torch.arange(40.0)[:, None].expand(-1, 5) * 30 + 100
    twins = lonely[[5, 11]] + 1e-4
    result = novelty(joined(lonely, twins), training, held_out)
    assert sorted(result.duplicates()) == [(5, 40), (11, 41)]
    assert result.duplicate_rate.value == pytest.approx(4 / 42)


def test_many_copies_of_one_image_make_few_pairs():
    result = novelty(Features(torch.full((50, 5), 9.0)), drawn(600, 1), drawn(400, 2))
    assert result.duplicate_rate.value == 1
    assert len(result.duplicates()) <= 50


# Results and pictures


def test_the_result_is_plain_values():
    result = novelty(drawn(30, 3), drawn(60, 1), drawn(40, 2), quantile=0.2)
    values = json.loads(json.dumps(result.to_dict()))
    assert values["copies"] == [list(pair) for pair in result.copies()]
    assert values["copy_rate"]["value"] == result.copy_rate.value
    assert len(values["nearest"]) == len(values["distances"]) == 30


def test_the_picture_shows_each_image_above_its_nearest(tmp_path):
    made, real = (TensorSource(torch.rand(count, 1, 40, 40) * 2 - 1) for count in (12, 30))
    flat = [Features(source.images.flatten(1).float()) for source in (made, real)]
    result = novelty(*flat, drawn(20, 1, dimensions=1600), quantile=0.5)
    path = tmp_path / "new" / "pairs.png"
    draw_closest_pairs(result, made, real, path, count=5, nrow=3)
    with Image.open(path) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("L")))
    width, height = (pixels.shape[1] - 2) // 3, (pixels.shape[0] - 2) // 4
    tiles = [
        [pixels[y * height + 14 : y * height + 54, x * width + 2 : x * width + 42] for x in range(3)]
        for y in range(4)
    ]
    order = result.distances.argsort().tolist()
    for place, index in enumerate(order[:5]):
        row, column = 2 * (place // 3), place % 3
        assert torch.equal(tiles[row][column], made.images[index, 0])
        assert torch.equal(tiles[row + 1][column], real.images[result.nearest[index], 0])
    assert (tiles[2][2] == 255).all()


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="at least 2 images"):
        novelty(drawn(1, 1), drawn(9, 2), drawn(20, 3))
    with pytest.raises(ValueError, match="9 held-out images are too few"):
        novelty(drawn(9, 1), drawn(9, 2), drawn(9, 3))
    with pytest.raises(ValueError, match="quantile must lie in"):
        novelty(drawn(9, 1), drawn(9, 2), drawn(20, 3), quantile=0.0)
    with pytest.raises(ValueError, match="5 and 4 features"):
        novelty(drawn(9, 1), drawn(9, 2, dimensions=4), drawn(20, 3))
    with pytest.raises(ValueError, match="2 nearest of 1 image do"):
        nearest(drawn(9, 1), drawn(1, 2), 2)
    with pytest.warns(UserWarning, match="held-out images are training images too"):
        novelty(drawn(9, 1), drawn(50, 2), drawn(50, 2))
    result = novelty(drawn(9, 1), drawn(9, 2), drawn(20, 3))
    small, large = (TensorSource(torch.zeros(9, 1, side, side)) for side in (4, 8))
    with pytest.raises(ValueError, match="all images must have one shape"):
        draw_closest_pairs(result, small, large, tmp_path / "pairs.png")
