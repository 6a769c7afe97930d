"""What the metrics read of real images, and of images spoilt in known ways, beside the same real ones.

    real images -> two halves: A and B
    A beside B                     the zero of the scale: what perfection reads
    A with noise, blur, ... beside B   the rungs
    generated images beside B      where they stand

All sets have equally many images, so that a metric's bias is the same on all rungs. A metric that reads no
more harm in a spoilt set than it reads in real images is blind for this data, whatever it says of the
generated ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from snowmelt.evaluation.answers.scores import evaluate
from snowmelt.evaluation.features import Extractor, Features, extract_features
from snowmelt.evaluation.ladder.spoiling import SPOILINGS
from snowmelt.evaluation.metrics import METRICS
from snowmelt.evaluation.uncertainty import SEED, Estimate
from snowmelt.formats import ImageSource, TensorSource
from snowmelt.json_files import Json, plain
from snowmelt.report import Table
from snowmelt.text import listed

__all__ = ["LEAST", "MOST", "Ladder", "build_ladder", "place"]

LEAST, MOST = 20, 500  # images of a rung


@dataclass(frozen=True)
class Ladder:
    """Metrics of real and of spoilt images beside other real ones, with as many images in every set.

    Attributes:
        count: the number of images in each set.
        real: estimates of real images, by metric.
        spoilt: the same of spoilt images, by the name of the spoiling.
        generated: the same of generated images; None if there are none, or too few.
    """

    count: int
    real: dict[str, Estimate]
    spoilt: dict[str, dict[str, Estimate]]
    generated: dict[str, Estimate] | None = None

    @property
    def sets(self) -> dict[str, dict[str, Estimate]]:
        """The estimates of each set of images that was measured, by its name: real, generated, spoilt."""
        sets = {"real": self.real, "generated": self.generated or {}, **self.spoilt}
        return {name: found for name, found in sets.items() if found}

    def blind(self, metric: str) -> list[str]:
        """Return the spoilings that a metric claims to see and does not.

        It sees a spoiling if the spoilt images read worse than the interval of the real ones.
        """
        found = METRICS[metric]
        real = self.real.get(metric)
        if real is None:
            return []
        limit = max(found.loss(real.low), found.loss(real.high))
        return [
            name
            for name, estimates in self.spoilt.items()
            if SPOILINGS[name].harms in found.sees
            and metric in estimates
            and not found.loss(estimates[metric].value) > limit
        ]

    def warnings(self) -> list[str]:
        """Return a sentence for each metric that is blind for these images."""
        return [
            f"{metric} is blind here: it does not see {listed(unseen)} in real images, so do not trust it"
            for metric in self.real
            if (unseen := self.blind(metric))
        ]

    def table(self) -> Table:
        """Return a row for each metric and a column for each set of images; blind metrics stand out."""
        sets = self.sets
        rows = [
            [metric, *(found[metric].rounded() if metric in found else "–" for found in sets.values())]
            for metric in self.real
        ]
        caption = f"The ladder: {self.count:,} images of each kind beside as many other real ones"
        alarms = [row for row, metric in enumerate(self.real) if self.blind(metric)]
        return Table(caption, ["metric", *sets], rows, notes=self.warnings(), alarms=alarms)

    def to_dict(self) -> Json:
        """Return it as plain values that JSON knows."""
        return {**plain(self), "blind": {name: self.blind(name) for name in self.real if self.blind(name)}}


def build_ladder(
    real: ImageSource,
    reference: Features,
    extractor: Extractor | Callable[[Tensor], Tensor],
    *,
    generated: Features | None = None,
    metrics: Sequence[str] | None = None,
    count: int = MOST,
    batch_size: int = 64,
    cache: str | Path | None = None,
    show_progress: bool = False,
) -> Ladder | None:
    """Return the ladder of real images, or None if there are fewer than 40 of them.

    Args:
        real: the images.
        reference: their features.
        extractor: of these features.
        generated: features of generated images of the same extractor, to be measured on the ladder.
        metrics: keys of `METRICS`; None takes all that the features allow.
        count: the largest number of images in a set.
        batch_size, cache, show_progress: as in `extract_features`.

    >>> from snowmelt.evaluation import extract_features, make_extractor, open_images
    >>> digits, extractor = open_images("digits:test"), make_extractor("pixels")
    >>> ladder = build_ladder(digits, extract_features(digits, extractor), extractor, metrics=["kid"])
    >>> ladder.count, ladder.blind("kid")
    (178, [])
    """
    first, second = _halves(reference)
    count = min(len(first), count, len(generated) if generated is not None else count)
    if count < LEAST:
        return None
    order = torch.Generator().manual_seed(SEED)
    first, second = (rows[torch.randperm(len(rows), generator=order)[:count]] for rows in (first, second))
    beside, images = reference.take(second), real.take(first.tolist())
    labels = reference.labels[first] if reference.labels is not None else None

    def measured(features: Features) -> dict[str, Estimate]:
        return evaluate(features, beside, metrics=metrics, per_class=False).overall

    spoilt = {}
    for name, spoiling in SPOILINGS.items():
        if spoiling.needs_labels and (labels is None or len(labels.unique()) < 2):
            continue
        source = TensorSource(spoiling(images, labels), labels, reference.class_names, f"real with {name}")
        features = extract_features(
            source, extractor, batch_size=batch_size, cache=cache, show_progress=show_progress
        )
        spoilt[name] = measured(features)
    placed = None
    if generated is not None:
        placed = measured(generated.take(torch.randperm(len(generated), generator=order)[:count]))
    return Ladder(count, measured(reference.take(first)), spoilt, placed)


def place(ladder: Ladder, metric: str) -> str | None:
    """Return in words between which rungs the generated images stand, or None if it cannot be said."""
    if ladder.generated is None or metric not in ladder.generated or metric not in ladder.real:
        return None
    loss = METRICS[metric].loss
    here = loss(ladder.generated[metric].value)
    rungs = {
        name: found[metric]
        for name, found in ladder.spoilt.items()
        if metric in found and SPOILINGS[name].harms == "fidelity"
    }
    below = {name: each for name, each in rungs.items() if loss(each.value) <= here}
    above = {name: each for name, each in rungs.items() if loss(each.value) > here}
    if below:
        name = max(below, key=lambda each: loss(below[each].value))
        return f"worse than real images with {name} ({below[name].value:.3g})"
    if above:
        name = min(above, key=lambda each: loss(above[each].value))
        return f"better than any spoilt images (the nearest, with {name}, read {above[name].value:.3g})"
    return None


def _halves(features: Features) -> tuple[Tensor, Tensor]:
    """Return the indices of two random halves, each class divided equally."""
    random = torch.Generator().manual_seed(SEED)
    labels = features.labels if features.labels is not None else torch.zeros(len(features), dtype=torch.long)
    halves: tuple[list[Tensor], list[Tensor]] = [], []
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=random)]
        middle = len(rows) // 2
        halves[0].append(rows[:middle])
        halves[1].append(rows[middle : 2 * middle])
    first, second = map(torch.cat, halves)
    return first, second
