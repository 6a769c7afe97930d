"""Is it good: metrics of two sets of features, each with an interval.

A metric is a function of its own, listed here by name; the tests of the laws that hold for all of them run
over this dictionary. All take the generated and the real features; the inception score looks at the former
only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from snowmelt.evaluation.metrics.density_coverage import coverage, density, density_coverage
from snowmelt.evaluation.metrics.features import Features
from snowmelt.evaluation.metrics.fid import fid, fid_infinity, frechet_distance
from snowmelt.evaluation.metrics.inception_score import inception_score
from snowmelt.evaluation.metrics.kid import kid
from snowmelt.evaluation.metrics.moments import Moments
from snowmelt.evaluation.metrics.precision_recall import precision, recall
from snowmelt.evaluation.uncertainty import Figure

__all__ = [
    "METRICS",
    "NEEDS_MOMENTS_ONLY",
    "Features",
    "Figure",
    "Metric",
    "Moments",
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

Metric = Callable[[Features, Any], Figure]  # beside Features some take Moments: NEEDS_MOMENTS_ONLY


def _inception_score(generated: Features, real: object) -> Figure:
    return inception_score(generated)


METRICS: dict[str, Metric] = {
    "fid": fid,
    "fid_infinity": fid_infinity,
    "kid": kid,
    "inception_score": _inception_score,
    "precision": precision,
    "recall": recall,
    "density": density,
    "coverage": coverage,
}

# These accept a file of statistics in place of real images
NEEDS_MOMENTS_ONLY = frozenset({"fid", "fid_infinity", "inception_score"})
