"""A metric that does not see spoilt images chooses no checkpoint."""

from __future__ import annotations

import pytest

from snowmelt.errors import InputError
from snowmelt.evaluation import open_images
from snowmelt.evaluation.answers.training_metrics import TrainingMetrics
from snowmelt.evaluation.features import choose
from snowmelt.evaluation.features.extractor import CallableExtractor, pixels


@pytest.fixture
def with_extractor(monkeypatch):
    """Return a function that measures digits with an extractor and lets a metric choose."""

    def measure(extractor, metric):
        monkeypatch.setattr(choose, "make_extractor", lambda *_, **__: extractor)
        return TrainingMetrics(open_images("digits:test"), [metric], watch=metric, extractor="mine")

    return measure


def test_a_blind_metric_is_refused_before_training(with_extractor):
    mean = CallableExtractor(lambda images: images.float().mean(dim=(1, 2, 3))[:, None] / 255)
    with pytest.raises(InputError, match=r"kid cannot choose .* shuffled patches.* Watch c2st"):
        with_extractor(mean, "kid")


def test_a_seeing_metric_chooses(with_extractor):
    assert with_extractor(pixels(), "kid").metrics == ["kid"]
