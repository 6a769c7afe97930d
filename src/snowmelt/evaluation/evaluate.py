"""Is it good: the chosen metrics of generated images beside real ones, overall and class by class."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snowmelt.evaluation.metrics import (
    METRICS,
    NEEDS_MOMENTS_ONLY,
    Features,
    Figure,
    Moments,
    density_coverage,
)
from snowmelt.evaluation.table import figures_table, grouped
from snowmelt.files import atomic_write
from snowmelt.progress import progress

__all__ = ["Evaluation", "evaluate", "possible_metrics"]

PAIR = ("density", "coverage")


@dataclass(frozen=True)
class Evaluation:
    """Figures by metric, for all images and for those of each class.

    Attributes:
        overall: figures by metric.
        per_class: by class name (its number where it has none), figures by metric; empty without labels.
        omitted: what was not computed, and why, as ``"recall of class owl: why"``.
    """

    overall: dict[str, Figure]
    per_class: dict[str, dict[str, Figure]] = field(default_factory=dict)
    omitted: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return it as a table for people."""
        omitted = [tuple(text.split(": ", 1)[::-1]) for text in self.omitted]
        left_out = "\n".join(f"Left out: {text}" for text in grouped((why, what) for why, what in omitted))
        return "\n\n".join(filter(None, [figures_table(self.overall, self.per_class), left_out]))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON knows."""
        return {
            "overall": _plain(self.overall),
            "per_class": {name: _plain(figures) for name, figures in self.per_class.items()},
            "omitted": list(self.omitted),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evaluation:
        """Return what `to_dict` made plain.

        >>> evaluation = Evaluation({"fid": Figure(1.5, 1.0, 2.0, 0.25, 5000, None)})
        >>> Evaluation.from_dict(evaluation.to_dict()) == evaluation
        True
        """
        return cls(
            _figures(values["overall"]),
            {name: _figures(figures) for name, figures in values["per_class"].items()},
            list(values["omitted"]),
        )

    def save(self, path: str | Path) -> None:
        """Write it as a JSON file, whole or not at all."""
        with atomic_write(path, "w") as file:
            json.dump(self.to_dict(), file, indent=1)
            file.write("\n")


def evaluate(
    generated: Features,
    real: Features | Moments,
    *,
    metrics: Sequence[str] | None = None,
    per_class: bool = True,
    show_progress: bool = False,
) -> Evaluation:
    """Compute metrics of generated images, overall and for each class that both sets have.

    What cannot be computed for the images at hand (a class of one image, probabilities that are not there) is
    omitted, and `Evaluation.omitted` says so.

    Args:
        generated: with labels for figures by class.
        real: the same; or moments alone, which serve FID, FID-infinity and IS, overall.
        metrics: keys of `METRICS`; None takes all that these features allow.
        per_class: False leaves the classes out.
        show_progress: show a bar.

    Raises:
        ValueError: a metric does not exist, or the features come from different extractors.

    >>> import torch
    >>> labels = torch.arange(60) % 2
    >>> generated, real = (Features(torch.randn(60, 4), labels, class_names=["ant", "bee"]) for _ in range(2))
    >>> result = evaluate(generated, real, metrics=["fid", "precision"])
    >>> list(result.overall), list(result.per_class)
    (['fid', 'precision'], ['ant', 'bee'])
    """
    chosen = possible_metrics(generated, real) if metrics is None else list(dict.fromkeys(metrics))
    unknown = [name for name in chosen if name not in METRICS]
    if unknown or not chosen:
        raise ValueError(f"metrics must be some of {', '.join(METRICS)}, got {', '.join(unknown) or 'none'}")
    _check_same_extractor(generated, real)
    labels = _common_classes(generated, real) if per_class else []
    names = (real.class_names if isinstance(real, Features) else None) or generated.class_names or []
    omitted: list[str] = []
    with progress(
        None, "Metrics", show=show_progress, total=len(chosen) * (1 + len(labels)), leave=False
    ) as bar:
        overall = _compute(generated, real, chosen, "all images", omitted, bar.update)
        classes: dict[str, dict[str, Figure]] = {}
        for label in labels:
            assert isinstance(real, Features)  # or there would be no common classes
            name = names[label] if 0 <= label < len(names) else str(label)
            pair = generated.of_class(label), real.of_class(label)
            classes[name] = _compute(*pair, chosen, f"class {name}", omitted, bar.update)
    return Evaluation(overall, classes, omitted)


def possible_metrics(generated: Features, real: Features | Moments) -> list[str]:
    """Return the metrics that features allow: the inception score needs probabilities, others real images.

    >>> import torch
    >>> images = Features(torch.randn(20, 4))
    >>> possible_metrics(images, images.moments)
    ['fid', 'fid_infinity']
    """
    return [
        name
        for name in METRICS
        if (isinstance(real, Features) or name in NEEDS_MOMENTS_ONLY)
        and (generated.probabilities is not None or name != "inception_score")
    ]


def _common_classes(generated: Features, real: Features | Moments) -> list[int]:
    if isinstance(real, Moments) or generated.labels is None or real.labels is None:
        return []
    return sorted(set(generated.labels.tolist()) & set(real.labels.tolist()))


def _compute(
    generated: Features,
    real: Features | Moments,
    metrics: Sequence[str],
    which: str,
    omitted: list[str],
    done: Callable[[], object],
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for name in metrics:
        if isinstance(real, Moments) and name not in NEEDS_MOMENTS_ONLY:
            omitted.append(f"{name} of {which}: it needs the real images, not their statistics alone")
        elif name not in figures:
            try:
                figures |= _measured(name, metrics, generated, real)
            except ValueError as error:
                omitted.append(f"{name} of {which}: {error}")
        done()
    return {name: figures[name] for name in metrics if name in figures}


def _measured(
    name: str, wanted: Sequence[str], generated: Features, real: Features | Moments
) -> dict[str, Figure]:
    """Return a metric's figure, with that of the other metric that the same pass over all pairs gives."""
    if name in PAIR and isinstance(real, Features) and set(wanted) >= set(PAIR):
        return dict(zip(PAIR, density_coverage(generated, real), strict=True))
    return {name: METRICS[name](generated, real)}


def _check_same_extractor(generated: Features, real: Features | Moments) -> None:
    theirs = len(real.mean) if isinstance(real, Moments) else real.values.shape[1]
    ours = generated.values.shape[1]
    if ours != theirs:
        raise ValueError(
            f"the generated images have features of {ours} numbers, the real ones of {theirs}: take one "
            "extractor for both, and for pixels one image size"
        )


def _plain(figures: dict[str, Figure]) -> dict[str, Any]:
    return {name: each.to_dict() for name, each in figures.items()}


def _figures(values: dict[str, Any]) -> dict[str, Figure]:
    return {name: Figure(**each) for name, each in values.items()}
