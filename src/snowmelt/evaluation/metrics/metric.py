"""What a metric is: its name, its function, and which values are better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from snowmelt.evaluation.features import Features, Moments
from snowmelt.evaluation.uncertainty import Estimate

__all__ = ["FIDELITY", "VARIETY", "Metric"]

FIDELITY, VARIETY = frozenset({"fidelity"}), frozenset({"variety"})
BOTH = FIDELITY | VARIETY


@dataclass(frozen=True)
class Metric:
    """A function of generated and real features, and what a reader must know of it.

    Attributes:
        name: in `METRICS`, in files and on the command line.
        compute: the function.
        better: ``"less"`` if smaller values are better, else ``"more"``.
        summary: what it measures.
        sees: what a good value claims: ``"fidelity"`` of each image, ``"variety"`` of the set, or both. A
            `Ladder` checks that the metric does see it.
        needs_many: whether it is mostly bias where there are fewer images than features.
        needs_real_images: False if a file of statistics can stand for the real images.
        needs_probabilities: True if the extractor must be a classifier.

    >>> from snowmelt.evaluation.metrics import METRICS
    >>> METRICS["recall"].loss(0.75), METRICS["fid"].loss(0.75)
    (-0.75, 0.75)
    """

    name: str
    compute: Callable[..., Estimate]
    better: Literal["less", "more"]
    summary: str
    sees: frozenset[str] = BOTH
    needs_many: bool = False
    needs_real_images: bool = True
    needs_probabilities: bool = False

    def __call__(self, generated: Features, real: Features | Moments, **options: Any) -> Estimate:
        """Return the metric with its 95 % interval.

        Raises:
            ValueError: it cannot be computed for these images; the message says why.
        """
        if self.needs_real_images and not isinstance(real, Features):
            raise ValueError("it needs the real images, not their statistics alone")
        return self.compute(generated, real, **options)

    def is_possible(self, generated: Features, real: Features | Moments) -> bool:
        """Return whether the features hold what the metric needs."""
        return (isinstance(real, Features) or not self.needs_real_images) and (
            generated.probabilities is not None or not self.needs_probabilities
        )

    def loss(self, value: float) -> float:
        """Return a value with its sign turned if more is better."""
        return value if self.better == "less" else -value
