"""Is it good: the chosen metrics of generated images beside real ones, overall and class by class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snowmelt.evaluation.features import Features, Moments
from snowmelt.evaluation.features.moments import check_same_dim
from snowmelt.evaluation.metrics import METRICS, check_metrics, density_coverage
from snowmelt.evaluation.uncertainty import Estimate
from snowmelt.json_files import Json, plain, write_json
from snowmelt.progress import progress
from snowmelt.report import INTERVALS, Chapter, Table

__all__ = ["Scores", "evaluate", "notes"]

PAIR = ("density", "coverage")
LEAST_OF_A_CLASS = 50  # images of each side; with fewer, intervals are as wide as the scale


@dataclass(frozen=True)
class Scores:
    """Metrics of all images and of those of each class.

    Attributes:
        overall: estimates by metric.
        per_class: by class name (its number where it has none), estimates by metric; empty without labels.
        omitted: what was not computed, and why, as ``"recall of class owl: why"``.
    """

    overall: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    omitted: list[str] = field(default_factory=list)

    def tables(self, *, short: bool = False) -> list[Table]:
        """Return a table of all images and, if there are classes, one of the classes.

        Args:
            short: show half of an interval's width in place of its ends, class by class.
        """
        rows = [[name, str(each), *_counts(each)] for name, each in self.overall.items()]
        reasons = _grouped(text.split(": ", 1)[::-1] for text in self.omitted)
        remarks = [*notes([self.overall]), *(f"Left out: {text}" for text in reasons)]
        header = ["metric", "value", "generated", "real"]
        tables = [Table(f"All images, {INTERVALS}", header, rows, notes=remarks)]
        if self.per_class:
            metrics = list(dict.fromkeys(name for found in self.per_class.values() for name in found))
            rows = [
                [label, *(_shown(found.get(name), short) for name in metrics), *_counts(*found.values())]
                for label, found in self.per_class.items()
            ]
            intervals = "+- half of the 95 % interval" if short else INTERVALS
            header = ["class", *metrics, "generated", "real"]
            tables.append(Table(f"Class by class, {intervals}", header, rows))
        return tables

    def __str__(self) -> str:
        """Return all tables and notes."""
        tables = self.tables(short=True)
        return "\n\n".join([*(f"{table.caption}\n{table}" for table in tables), "\n".join(tables[0].notes)])

    def _repr_html_(self) -> str:
        """Return all tables and notes, for a notebook."""
        return "".join(table._repr_html_() for table in self.tables())

    def chapter(self) -> Chapter:
        """Return the chapter of a report."""
        directions = [
            f"{name}: {METRICS[name].summary}; {METRICS[name].better} is better" for name in self.overall
        ]
        return Chapter("Is it good", [*self.tables(), *directions])

    def to_dict(self) -> Json:
        """Return it as plain values that JSON knows."""
        values: Json = plain(self)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """Return what `to_dict` made plain.

        >>> scores = Scores({"fid": Estimate(1.5, 1.0, 2.0, 0.25, 5000, None)})
        >>> Scores.from_dict(scores.to_dict()) == scores
        True
        """
        return cls(
            _estimates(values["overall"]),
            {name: _estimates(found) for name, found in values["per_class"].items()},
            list(values["omitted"]),
        )

    def save(self, path: str | Path) -> None:
        """Write it as a JSON file, whole or not at all."""
        write_json(path, self)


def evaluate(
    generated: Features,
    real: Features | Moments,
    *,
    metrics: Sequence[str] | None = None,
    per_class: bool = True,
    show_progress: bool = False,
) -> Scores:
    """Compute metrics of generated images, overall and for each class that both sets have.

    What cannot be computed or says nothing (a class of few images, FID of fewer images than features,
    missing probabilities) is left out, and `Scores.omitted` says so.

    Args:
        generated: with labels for the classes.
        real: the same; or moments alone, which are enough for FID, FID-infinity and IS of all images.
        metrics: keys of `METRICS`; None takes all that these features allow.
        per_class: False leaves the classes out.
        show_progress: show a bar.

    Raises:
        ValueError: a metric does not exist, or the features come from different extractors.

    >>> import torch
    >>> labels = torch.arange(100) % 2
    >>> names = ["ant", "bee"]
    >>> generated, real = (Features(torch.randn(100, 4), labels, class_names=names) for _ in range(2))
    >>> result = evaluate(generated, real, metrics=["fid", "precision"])
    >>> list(result.overall), list(result.per_class)
    (['fid', 'precision'], ['ant', 'bee'])
    """
    chosen = list(dict.fromkeys(metrics)) if metrics is not None else possible_metrics(generated, real)
    check_metrics(chosen)
    check_same_dim(generated.dim, real.dim)
    classes = _common_classes(generated, real) if per_class else {}
    omitted: list[str] = []
    total = len(chosen) * (1 + len(classes))
    with progress(None, "Metrics", show=show_progress, total=total, leave=False) as bar:

        def measured(
            which: str, names: Sequence[str], ours: Features, theirs: Features | Moments
        ) -> dict[str, Estimate]:
            found: dict[str, Estimate] = {}
            for name in names:
                try:
                    if name not in found:
                        found |= _measured(name, names, ours, theirs)
                except ValueError as error:
                    omitted.append(f"{name} of {which}: {error}")
                bar.update()
            return {name: found[name] for name in names if name in found}

        overall = measured("all images", chosen, generated, real)
        by_class = {}
        for name, label in classes.items():
            assert isinstance(real, Features)  # moments alone have no classes
            ours, theirs = generated.of_class(label), real.of_class(label)
            if (count := min(len(ours), len(theirs))) < LEAST_OF_A_CLASS:
                omitted.append(f"class {name}: fewer than {LEAST_OF_A_CLASS} generated or real images")
                continue
            names = [each for each in chosen if count >= generated.dim or not METRICS[each].needs_many]
            omitted += [
                f"{each} of single classes: fewer images than features, so it is mostly bias"
                for each in chosen
                if each not in names
            ]
            by_class[name] = measured(f"class {name}", names, ours, theirs)
    return Scores(overall, by_class, omitted)


def possible_metrics(generated: Features, real: Features | Moments) -> list[str]:
    """Return the metrics that features allow.

    >>> import torch
    >>> images = Features(torch.randn(20, 4))
    >>> possible_metrics(images, images.moments)
    ['fid_infinity', 'fid']
    """
    return [name for name, metric in METRICS.items() if metric.is_possible(generated, real)]


def notes(sets: Iterable[Mapping[str, Estimate]]) -> list[str]:
    """Return what must be known about estimates by metric, each note once.

    >>> notes([{"fid": Estimate(1.5, 1.0, 2.0, 0.25, 500, None, "few images; no labels")}])
    ['few images: fid', 'no labels: fid']
    """
    return _grouped(
        (note, name)
        for found in sets
        for name, each in found.items()
        for note in each.note.split("; ")
        if note
    )


def _grouped(statements: Iterable[Sequence[str]]) -> list[str]:
    """Return each text once, followed by all that it is true of, as ``"text: one, other"``."""
    said: dict[str, dict[str, None]] = {}
    for text, of in statements:
        said.setdefault(text, {})[of] = None
    return [f"{text}: {', '.join(of)}" for text, of in said.items()]


def _common_classes(generated: Features, real: Features | Moments) -> dict[str, int]:
    """Return the classes that both sets have, by their names."""
    if isinstance(real, Moments) or generated.labels is None or real.labels is None:
        return {}
    names = real.class_names or generated.class_names or []
    common = sorted(set(generated.labels.tolist()) & set(real.labels.tolist()))
    return {names[label] if 0 <= label < len(names) else str(label): label for label in common}


def _measured(
    name: str, wanted: Sequence[str], generated: Features, real: Features | Moments
) -> dict[str, Estimate]:
    """Return a metric; density and coverage come from one pass over all pairs, so they come together."""
    if name in PAIR and isinstance(real, Features) and set(wanted) >= set(PAIR):
        return dict(zip(PAIR, density_coverage(generated, real), strict=True))
    return {name: METRICS[name](generated, real)}


def _shown(each: Estimate | None, short: bool) -> str:
    if each is None:
        return "–"
    return each.short() if short else str(each)


def _counts(*found: Estimate) -> list[str]:
    """Return the numbers of generated and of real images."""
    real = next((each.n_real for each in found if each.n_real is not None), None)
    return [f"{found[0].n_generated:,}" if found else "–", f"{real:,}" if real is not None else "–"]


def _estimates(values: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate(**each) for name, each in values.items()}
