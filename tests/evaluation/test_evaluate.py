"""An evaluation holds each metric once, for all images and for each class, and says what it left out."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from snowmelt.config.training import Metric as ConfiguredMetric
from snowmelt.errors import InputError
from snowmelt.evaluation import (
    METRICS,
    Features,
    Moments,
    Scores,
    TensorSource,
    evaluate,
    extract_features,
    make_extractor,
)
from snowmelt.evaluation import open_reference as opened
from snowmelt.evaluation.drawing import draw_scores, draw_side_by_side
from snowmelt.evaluation.metrics import neighbours
from snowmelt.images import decode_png


def labelled(count: int = 120, seed: int = 0, classes: int = 2, probabilities: bool = True) -> Features:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 4, generator=generator)
    likely = values[:, :3].softmax(dim=1) if probabilities else None
    return Features(values, torch.arange(count) % classes, likely, ["ant", "bee", "cat"])


def source(count: int = 40, seed: int = 0, side: int = 4) -> TensorSource:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8, generator=generator)
    return TensorSource(pixels, torch.arange(count) % 2, name=f"source {seed}")


def by_definition(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Metrics of generated x beside real y, each written out from its paper."""

    def reach(points: np.ndarray, k: int) -> np.ndarray:
        return np.sort(np.linalg.norm(points[:, None] - points, axis=2), axis=1)[:, k]

    def mean_off_diagonal(kernel: np.ndarray) -> float:
        return float((kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)))

    first, second = np.cov(x.T), np.cov(y.T)
    kernel = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731
    distances = np.linalg.norm(x[:, None] - y, axis=2)
    return {
        "fid": np.square(x.mean(0) - y.mean(0)).sum()
        + np.trace(first + second - 2 * sqrtm(first @ second).real),
        "kid": mean_off_diagonal(kernel(x, x)) + mean_off_diagonal(kernel(y, y)) - 2 * kernel(x, y).mean(),
        "precision": (distances <= reach(y, 3)).any(axis=1).mean(),
        "recall": (distances <= reach(x, 3)[:, None]).any(axis=0).mean(),
        "density": (distances <= reach(y, 5)).sum(axis=1).mean() / 5,
        "coverage": (distances <= reach(y, 5)).any(axis=0).mean(),
    }


def test_every_metric_is_that_of_its_definition_for_all_images_and_for_each_class():
    generated, real = labelled(seed=1), labelled(seed=2)
    result = evaluate(generated, real)
    assert list(result.overall) == list(METRICS)
    assert result.omitted == []
    x, y, labels = generated.values.double().numpy(), real.values.double().numpy(), np.arange(120) % 2
    wanted = {"all": (result.overall, by_definition(x, y))}
    for label, name in enumerate(["ant", "bee"]):
        wanted[name] = result.per_class[name], by_definition(x[labels == label], y[labels == label])
    assert len({expected["fid"] for _, expected in wanted.values()}) == 3
    for found, expected in wanted.values():
        for metric, value in expected.items():
            assert found[metric].value == pytest.approx(value, rel=1e-5), metric


@pytest.mark.parametrize("name", METRICS)
def test_spoilt_images_lose_by_every_metric(name):
    """Images like the real ones against the same images, half of them far away and all of unclear classes."""
    good, real = labelled(200, seed=1), labelled(200, seed=2)
    far = good.values.clone()
    far[:100] += 50.0
    spoilt = Features(far, good.labels, torch.full((200, 3), 1 / 3))
    metric = METRICS[name]
    assert metric.loss(metric(spoilt, real).value) > metric.loss(metric(good, real).value)


def test_a_configuration_knows_the_same_metrics():
    assert set(get_args(ConfiguredMetric)) == set(METRICS)


def test_only_common_classes_are_compared():
    result = evaluate(labelled(180, classes=3), labelled(classes=2, seed=1), metrics=["fid"])
    assert list(result.per_class) == ["ant", "bee"]
    assert evaluate(labelled(), labelled(), metrics=["fid"], per_class=False).per_class == {}
    assert evaluate(Features(labelled().values), labelled(), metrics=["fid"]).per_class == {}


def test_what_cannot_be_computed_is_left_out_and_named():
    few = evaluate(labelled(6), labelled(seed=1), metrics=["fid", "fid_infinity", "recall"])
    assert list(few.overall) == ["fid", "recall"]
    assert any(text.startswith("fid_infinity of all images: FID-infinity needs") for text in few.omitted)
    assert "class ant: fewer than 50 generated or real images" in few.omitted
    assert "Left out: " in str(few)
    without = evaluate(labelled(probabilities=False), labelled(), metrics=["inception_score"])
    assert without.overall == {}
    assert "needs class probabilities" in without.omitted[0]


def test_statistics_alone_serve_fid():
    generated, real = labelled(seed=1), labelled(seed=2)
    result = evaluate(generated, real.moments)
    assert list(result.overall) == ["fid_infinity", "inception_score", "fid"]
    assert result.overall["fid"].value == evaluate(generated, real).overall["fid"].value
    refused = evaluate(generated, real.moments, metrics=["fid", "kid"])
    assert refused.omitted == [
        "kid of all images: it needs the real images, not their statistics alone",
    ]


def test_it_is_read_back_from_json(tmp_path):
    result = evaluate(labelled(seed=1), labelled(seed=2))
    result.save(tmp_path / "metrics.json")
    assert Scores.from_dict(json.loads((tmp_path / "metrics.json").read_text())) == result


def test_the_table_shows_every_number_and_says_each_note_once():
    result = evaluate(labelled(seed=1), labelled(seed=2), metrics=["fid", "precision"])
    shown = str(result)
    assert str(result.overall["fid"]) in shown
    assert result.per_class["bee"]["precision"].short() in shown
    assert shown.count("only 120 generated and 120 real images") == 1
    assert "k = 3: precision" in shown


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="no metric fidd; did you mean fid"):
        evaluate(labelled(), labelled(), metrics=["fid", "fidd"])
    with pytest.raises(ValueError, match="at least one metric: c2st, kid"):
        evaluate(labelled(), labelled(), metrics=[])
    with pytest.raises(ValueError, match="4 and 3 features"):
        evaluate(labelled(), Features(torch.randn(60, 3)))


# The reference


def test_a_reference_is_computed_once_for_the_same_images(tmp_path, monkeypatch):
    pixels = make_extractor("pixels")
    generated = extract_features(source(seed=1), pixels)
    first = evaluate(generated, opened(source(), pixels, cache=tmp_path))
    assert {path.name.split(".", 1)[1] for path in tmp_path.iterdir()} == {
        "npy", "moments.npy", "radii-3.npy", "radii-5.npy",
    }  # fmt: skip

    def again(*_):
        raise AssertionError("computed again")

    # Of the generated images they have been computed already, and are in memory
    monkeypatch.setattr(Moments, "of", again)
    monkeypatch.setattr(neighbours, "_radii", again)
    second = evaluate(
        generated, opened(source(), pixels, cache=tmp_path), per_class=False, metrics=["fid", "recall"]
    )
    assert second.overall["fid"] == first.overall["fid"]
    kept = opened(source(), pixels, cache=tmp_path)
    assert METRICS["precision"](generated, kept) == first.overall["precision"]
    with pytest.raises(AssertionError, match="computed again"):
        METRICS["precision"](generated, opened(source(seed=3), pixels, cache=tmp_path))


def test_damaged_statistics_are_computed_anew(tmp_path):
    pixels = make_extractor("pixels")
    generated = extract_features(source(seed=1), pixels)
    first = evaluate(generated, opened(source(), pixels, cache=tmp_path))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert evaluate(generated, opened(source(), pixels, cache=tmp_path)) == first


def test_a_file_of_statistics_stands_for_images(tmp_path):
    pixels = make_extractor("pixels")
    real = extract_features(source(), pixels)
    real.moments.save(tmp_path / "stats.npz")
    found = opened(tmp_path / "stats.npz", pixels)
    assert isinstance(found, Moments)
    generated = extract_features(source(seed=1), pixels)
    expected = evaluate(generated, real).overall["fid"].value
    assert evaluate(generated, found).overall["fid"].value == expected


def test_statistics_of_another_extractor_are_refused(tmp_path):
    labelled().moments.save(tmp_path / "stats.npz")
    small = make_extractor("classifier", source=source(), steps=1)
    with pytest.raises(InputError, match="statistics of 4 features, but the extractor has 64"):
        opened(tmp_path / "stats.npz", small)


# Pictures


def test_pictures_are_drawn(tmp_path):
    draw_scores(evaluate(labelled(seed=1), labelled(seed=2)), tmp_path / "metrics.png")
    decode_png((tmp_path / "metrics.png").read_bytes())
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_scores(Scores({}), tmp_path / "none.png")


def test_generated_and_real_images_stand_side_by_side(tmp_path):
    """A row a class: generated images, a white gap, real ones."""
    generated, real = (
        TensorSource(torch.full((4, 1, 32, 32), gray, dtype=torch.uint8), [0, 0, 0, 1]) for gray in (50, 200)
    )
    draw_side_by_side(generated, real, tmp_path / "both.png", per_class=2)
    picture, _ = decode_png((tmp_path / "both.png").read_bytes())
    tiles = picture[0, 2:, 2:].unfold(0, 32, 34).unfold(1, 32, 34)[..., 16, 16]
    assert tiles.tolist() == [[50, 50, 255, 200, 200], [50, 255, 255, 200, 255]]
    with pytest.raises(ValueError, match="all images must have one shape"):
        draw_side_by_side(generated, source(), tmp_path / "no.png")
