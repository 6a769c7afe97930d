"""Is it good: metrics of generated beside real features, each with an interval.

A metric is a function of its own, listed here as a `Metric`. The tests of the laws that hold for all metrics
run over this dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from snowmelt.errors import InputError
from snowmelt.evaluation.metrics.c2st import c2st
from snowmelt.evaluation.metrics.density_coverage import coverage, density, density_coverage
from snowmelt.evaluation.metrics.fid import fid, fid_infinity, frechet_distance
from snowmelt.evaluation.metrics.inception_score import inception_score
from snowmelt.evaluation.metrics.kid import kid
from snowmelt.evaluation.metrics.metric import FIDELITY, VARIETY, Metric
from snowmelt.evaluation.metrics.precision_recall import precision, recall

__all__ = [
    "METRICS",
    "Metric",
    "c2st",
    "check_metrics",
    "coverage",
    "density",
    "density_coverage",
    "fid",
    "fid_infinity",
    "frechet_distance",
    "inception_score",
    "kid",
    "precision",
    "recall",
]

# In the order in which reports show them: what can be trusted with few images comes first
_ALL = (
    Metric("c2st", c2st, "less", "share of images that a classifier recognises as generated or real"),
    Metric("kid", kid, "less", "kernel distance of the features"),
    Metric(
        "fid_infinity",
        fid_infinity,
        "less",
        "FID of infinitely many images",
        needs_many=True,
        needs_real_images=False,
    ),
    Metric("precision", precision, "more", "share of generated images near a real one", FIDELITY),
    Metric("recall", recall, "more", "share of real images near a generated one", VARIETY),
    Metric(
        "density",
        density,
        "more",
        "number of real images near a generated one, relative to real images",
        FIDELITY,
    ),
    Metric(
        "coverage",
        coverage,
        "more",
        "share of real images with a generated one in their neighbourhood",
        VARIETY,
    ),
    Metric(
        "inception_score",
        inception_score,
        "more",
        "each image shows a clear class, all classes occur equally often",
        needs_real_images=False,
        needs_probabilities=True,
    ),
    Metric(
        "fid",
        fid,
        "less",
        "Fréchet distance of the features",
        needs_many=True,
        needs_real_images=False,
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def check_metrics(names: Sequence[str]) -> None:
    """Check that names are those of metrics.

    Raises:
        InputError: a metric does not exist, or no name is given.

    >>> check_metrics(["fid", "recal"])
    Traceback (most recent call last):
    snowmelt.errors.InputError: there is no metric recal; did you mean recall?
    """
    if not names:
        raise InputError(f"give at least one metric: {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            near = get_close_matches(name, METRICS, n=1) or [f"one of {', '.join(METRICS)}"]
            raise InputError(f"there is no metric {name}; did you mean {near[0]}?")
