"""The small classifier: it learns, it is a function of data and seed, and it is trained once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.evaluation import TensorSource, extract_features, make_extractor, open_images
from snowmelt.evaluation.features import SmallClassifier, small_classifier, train_classifier
from snowmelt.evaluation.metrics import inception_score


def stripes(count: int, size: int = 8, channels: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Upright (0) and level (1) stripes in noise, at random places."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    pattern = 60 + 100 * ((torch.arange(size) // 2) % 2)
    upright = pattern.expand(size, size)
    images = torch.stack([upright.T if label else upright for label in labels.tolist()])
    moves = torch.randint(size, (count,), generator=random).tolist()
    images = torch.stack([image.roll((m, m), (0, 1)) for image, m in zip(images, moves, strict=True)])
    noise = torch.randint(0, 90, (count, channels, size, size), generator=random)
    return (images[:, None] + noise).to(torch.uint8), labels


def source(count: int = 60, **options) -> TensorSource:
    return TensorSource(*stripes(count, **options))


def same(one: SmallClassifier, other: SmallClassifier) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_it_recognises_images_that_it_has_not_seen():
    network = train_classifier(*stripes(100), num_classes=2, steps=60)
    images, labels = stripes(200, seed=1)
    assert (network(images).argmax(dim=1) == labels).float().mean() > 0.97


@pytest.mark.parametrize(("size", "channels"), [(7, 1), (16, 3), (32, 3)])
def test_it_takes_images_of_any_size(size, channels):
    images, labels = stripes(4, size, channels)
    network = train_classifier(images, labels, num_classes=3, steps=1)
    assert network(images).shape == (4, 3)
    assert network.features(images).shape == (4, 64)


def test_it_follows_from_data_and_seed_alone():
    images, labels = stripes(40)
    first = train_classifier(images, labels, 2, steps=4, seed=3)
    torch.rand(5)  # the global generator has no part in it, and is left as it was
    before = torch.get_rng_state()
    assert same(first, train_classifier(images, labels, 2, steps=4, seed=3))
    assert torch.equal(before, torch.get_rng_state())
    assert not same(first, train_classifier(images, labels, 2, steps=4, seed=4))
    assert not same(first, train_classifier(images, 1 - labels, 2, steps=4, seed=3))


def test_an_images_features_do_not_depend_on_its_company():
    extractor = make_extractor("classifier", source=source(), steps=2)
    images, _ = stripes(6)
    together = extractor(images)
    apart = torch.cat([extractor(each) for each in images.split(1)])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)


def test_its_probabilities_are_those_of_its_logits():
    data = source()
    extractor = make_extractor("classifier", source=data, steps=20)
    features = extract_features(data, extractor)
    expected = extractor.network(data.images).softmax(dim=1)
    torch.testing.assert_close(features.probabilities, expected, rtol=1e-4, atol=1e-6)
    assert 1 < inception_score(features).value <= 2


# The cache


def test_it_is_trained_once(tmp_path, monkeypatch):
    trainings = []
    train = small_classifier.train_classifier
    monkeypatch.setattr(
        small_classifier,
        "train_classifier",
        lambda *args, **options: trainings.append(1) or train(*args, **options),
    )

    def made(data=None, **options):
        options = {"steps": 2, "cache": tmp_path, **options}
        return make_extractor("classifier", source=data or source(), **options)

    first, again = made(), made()
    assert len(trainings) == 1
    assert same(first.network, again.network)
    assert first.name == again.name
    images, labels = stripes(60)
    made(TensorSource(images, 1 - labels))
    made(source(seed=1))
    made(seed=1)
    made(steps=3)
    made(cache=None)
    assert len(trainings) == 6


def test_a_damaged_classifier_is_trained_anew(tmp_path):
    make = lambda: make_extractor("classifier", source=source(), steps=2, cache=tmp_path)  # noqa: E731
    first = make()
    (path,) = tmp_path.iterdir()
    for damage in (b"", path.read_bytes()[:1000], b"x" * 2000):
        path.write_bytes(damage)
        assert same(make().network, first.network)


# Mistakes


def test_images_without_classes_teach_nothing():
    images, labels = stripes(10)
    for wrong in (None, torch.zeros_like(labels)):
        with pytest.raises(InputError, match="take pixels, inception"):
            make_extractor("classifier", source=TensorSource(images, wrong))


def test_images_of_another_shape_are_refused():
    extractor = make_extractor("classifier", source=source(), steps=1)
    with pytest.raises(InputError, match=r"8x8 pixels in gray and cannot read 16x16 pixels in colour"):
        extractor(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(4, 1, 8, 8)}, "uint8"),
        ({"images": torch.zeros(0, 1, 8, 8, dtype=torch.uint8)}, "uint8"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "one for each image"),
        ({"num_classes": 1}, "at least 2 classes"),
        ({"labels": torch.tensor([0, 1, 2, 0])}, r"0\.\.1, got 0 to 2"),
        ({"labels": torch.tensor([0, -1, 1, 0])}, r"0\.\.1, got -1 to 1"),
    ],
)
def test_mistakes_are_named(change, message):
    images, labels = stripes(4)
    with pytest.raises(ValueError, match=message):
        train_classifier(**{"images": images, "labels": labels, "num_classes": 2, **change})


def test_digits_are_told_apart():
    """Of real digits that it has not seen, nineteen in twenty."""
    extractor = make_extractor("classifier", source=open_images("digits:train"), steps=100)
    test = extract_features(open_images("digits:test"), extractor)
    assert (test.probabilities.argmax(dim=1) == test.labels).float().mean() > 0.95
