"""The ladder: spoilings do what they say, and a metric that does not see them is found out."""

from __future__ import annotations

import pytest
import torch

from snowmelt.evaluation import TensorSource, extract_features, make_extractor, open_images
from snowmelt.evaluation.features import CallableExtractor
from snowmelt.evaluation.ladder import SPOILINGS, build_ladder
from snowmelt.evaluation.ladder.ladder import place


@pytest.fixture(scope="module")
def digits():
    return open_images("digits:train")


@pytest.fixture(scope="module")
def pixels():
    return make_extractor("pixels")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 20), (3, 7, 9)], ids=str)
@pytest.mark.parametrize("name", SPOILINGS)
def test_every_spoiling_keeps_shape_and_number_and_follows_its_seed(name, shape):
    images = torch.randint(0, 256, (6, *shape), dtype=torch.uint8)
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    first, again = (SPOILINGS[name](images, labels, seed=7) for _ in range(2))
    assert first.shape == images.shape
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, images)


def test_shuffled_patches_are_the_same_pixels():
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    for strength in (2, 4):
        spoilt = SPOILINGS["shuffled patches"](images, strength=strength)
        assert torch.equal(spoilt.flatten(2).sort().values, images.flatten(2).sort().values)


def test_blur_keeps_the_mean_and_takes_the_edges():
    images = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8)
    spreads = [SPOILINGS["blur"](images, strength=strength).float() for strength in (1.5, 3)]
    assert all(abs(each.mean() - images.float().mean()) < 2 for each in spreads)
    assert spreads[1].std() < spreads[0].std() < images.float().std()


def test_duplicates_and_few_classes_leave_less_variety():
    images = torch.arange(64, dtype=torch.uint8)[:, None, None, None].expand(64, 1, 4, 4)
    labels = torch.tensor([0] * 40 + [1] * 24)
    for strength in (2, 8):
        assert len(SPOILINGS["duplicates"](images, labels, strength).unique()) == 64 / strength
    assert SPOILINGS["one class only"](images, labels).max() < 40
    with pytest.raises(ValueError, match="only where images have labels"):
        SPOILINGS["one class only"](images, None)


def test_real_images_read_nothing_and_spoilt_ones_more(digits, pixels):
    ladder = build_ladder(
        digits, extract_features(digits, pixels), pixels, metrics=["kid", "c2st"], count=200
    )
    assert ladder.count == 200
    assert ladder.real["kid"].low <= 0 <= ladder.real["kid"].high
    assert set(ladder.spoilt) == set(SPOILINGS)
    assert ladder.blind("kid") == []
    assert ladder.warnings() == []
    assert all(found["kid"].value > ladder.real["kid"].high for found in ladder.spoilt.values())


def test_a_metric_on_features_without_eyes_is_blind(digits):
    """The mean of an image does not see where its pixels are."""
    mean = CallableExtractor(lambda images: images.float().mean(dim=(1, 2, 3))[:, None] / 255, "mean")
    ladder = build_ladder(digits, extract_features(digits, mean), mean, metrics=["kid", "precision"])
    assert "shuffled patches" in ladder.blind("kid")
    assert "duplicates" not in ladder.blind("precision")  # which it does not claim to see
    (row,) = [row for row in ladder.table().rows if row[0] == "kid"]
    assert ladder.table().rows.index(row) in ladder.table().alarms
    assert ladder.warnings()[0].startswith("kid is blind here: it does not see ")
    assert ladder.to_dict()["blind"]["kid"] == ladder.blind("kid")


def test_generated_images_have_their_place(digits, pixels):
    reference = extract_features(digits, pixels)
    noisy = TensorSource(SPOILINGS["noise"](digits.take(range(400)), strength=80), digits.labels[:400])
    generated = extract_features(noisy, pixels)
    ladder = build_ladder(digits, reference, pixels, generated=generated, metrics=["kid"])
    assert ladder.count == 400
    assert ladder.generated["kid"].value > ladder.spoilt["noise"]["kid"].value
    assert place(ladder, "kid").startswith("worse than real images with ")
    alone = build_ladder(digits, reference, pixels, metrics=["kid"], count=100)
    assert place(alone, "kid") is None


def test_without_labels_or_with_few_images(digits, pixels):
    unlabelled = TensorSource(digits.take(range(100)))
    ladder = build_ladder(unlabelled, extract_features(unlabelled, pixels), pixels, metrics=["kid"])
    assert "one class only" not in ladder.spoilt
    few = TensorSource(digits.take(range(30)))
    assert build_ladder(few, extract_features(few, pixels), pixels) is None
