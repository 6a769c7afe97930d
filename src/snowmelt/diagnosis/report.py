"""The result of a check, as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from snowmelt.diagnosis.dialects import Dialect
from snowmelt.text import listed, text_table

__all__ = ["ANOTHER", "NULL", "WORST", "Fit", "LabelEffect", "Report"]

CLOSE = 1.1  # times the best error: a claim this near to it fits
ALIKE = 1.02  # times the best error: the images cannot tell the two apart
GUESSING = 2.0  # times the error of guessing pixel by pixel: a network that is worse does not denoise
WORST = 1e12  # stands for every larger error, and for none at all
BLIND = 1e-3  # of the images' spread: a label that changes less changes nothing
SHOWN = 6

ANOTHER, NULL = "another class's label", "the null class"

_CHOICES = {
    "parameterization": "predicts",
    "time": "is told",
    "data_range": "knows images in",
    "schedule": "was trained on",
}


@dataclass(frozen=True)
class Fit:
    """How well a network denoises when it is spoken to in one dialect.

    Attributes:
        dialect: the one.
        errors: the mean squared error of the predicted image at each noise level, divided by that of the best
            guess pixel by pixel; None where the schedule has no such level.
    """

    dialect: Dialect
    errors: tuple[float | None, ...]

    @property
    def overall(self) -> float:
        """The geometric mean of the errors.

        >>> Fit(None, (0.5, None, 2.0)).overall
        1.0
        """
        logs = [math.log(max(error, 1 / WORST)) for error in self.errors if error is not None]
        return math.exp(sum(logs) / len(logs)) if logs else WORST


class LabelEffect(NamedTuple):
    """What happens under another label than the image's own.

    Attributes:
        change: of the predicted image: root mean square, in units of the images' spread, at the noise level
            where it changes most.
        error: divided by that under the image's own label; None where that is not known.
    """

    change: float
    error: float | None


@dataclass(frozen=True)
class Report:
    """The dialects that fit a network, and what was claimed.

    Attributes:
        num_images: on how many images the errors were measured.
        noise: the noise levels, sigma/alpha in units of the images' spread.
        fits: the best dialects, best first.
        claim: how well the claimed one fits; None where nothing was claimed.
        labels: what happens under `ANOTHER` label and under `NULL`, as far as there are any.
    """

    num_images: int
    noise: tuple[float, ...]
    fits: tuple[Fit, ...]
    claim: Fit | None
    labels: Mapping[str, LabelEffect]

    @property
    def best(self) -> Fit:
        """The dialect that fits best."""
        return self.fits[0]

    @property
    def fluent(self) -> bool:
        """Whether the network denoises in any dialect at all."""
        return self.best.overall <= GUESSING

    @property
    def claim_fits(self) -> bool:
        """Whether the network speaks what was claimed, which is nothing if nothing was."""
        return self.fluent and (self.claim is None or self.claim.overall <= CLOSE * self.best.overall)

    @property
    def ok(self) -> bool:
        """Whether the claim fits, and the label, if there is one, changes something."""
        return self.claim_fits and not self.blind

    @property
    def blind(self) -> bool:
        """Whether there are labels, and none of them changes anything."""
        return bool(self.labels) and all(effect.change < BLIND for effect in self.labels.values())

    def verdict(self) -> list[str]:
        """Return what was found, in sentences."""
        return [*self._on_dialects(), *self._on_labels()]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, strings, lists and dictionaries."""

        def one(fit: Fit) -> dict[str, Any]:
            return {**fit.dialect.names(), "errors": list(fit.errors), "overall": fit.overall}

        return {
            "ok": self.ok,
            "verdict": self.verdict(),
            "num_images": self.num_images,
            "noise": list(self.noise),
            "fits": [one(fit) for fit in self.fits],
            "claim": None if self.claim is None else one(self.claim),
            "labels": {label: effect._asdict() for label, effect in self.labels.items()},
        }

    def __str__(self) -> str:
        shown = list(self.fits[:SHOWN])
        if self.claim is not None and self.claim.dialect not in [fit.dialect for fit in shown]:
            shown.append(self.claim)
        head = ["predicts", "is told", "images in", "schedule", *(f"{noise:.2g}" for noise in self.noise)]
        rows = [[*head, "overall", ""], *(self._row(fit) for fit in shown)]
        lines = [
            f"Error of the predicted image, on {self.num_images} images, at noise sigma/alpha in units of",
            "their spread; 1 is the error of the best guess pixel by pixel:",
            "",
            text_table(rows, left=4),
            "",
            *self.verdict(),
        ]
        return "\n".join(lines)

    def _row(self, fit: Fit) -> list[str]:
        errors = ["" if error is None else _number(error) for error in fit.errors]
        claimed = self.claim is not None and fit.dialect == self.claim.dialect
        return [*fit.dialect.names().values(), *errors, _number(fit.overall), "claimed" if claimed else ""]

    def _on_dialects(self) -> list[str]:
        best, claim = self.best, self.claim
        if not self.fluent:
            return [
                f"Nothing fits: in no dialect that was tried is the error below {GUESSING:g} times that of "
                "guessing. The network is not trained, or not on such images, or has a dialect of its own."
            ]
        if claim is None:
            return [f"The network {_spoken(best.dialect)}.", *self._as_good(best)]
        if self.claim_fits:
            return [f"As claimed, the network {_spoken(claim.dialect)}.", *self._as_good(claim)]
        names, claimed = self._nearest(claim).dialect.names(), claim.dialect.names()
        wrong = [
            f"{_CHOICES[choice]} {names[choice]}, not {claimed[choice]}"
            for choice in names
            if names[choice] != claimed[choice]
        ]
        return [
            f"The claim is wrong: the network {'; '.join(wrong)}.",
            f"The claim's error is {_number(claim.overall)}, that of the best fit {_number(best.overall)}.",
            *self._as_good(best),
        ]

    def _nearest(self, claim: Fit) -> Fit:
        """Return, of all that fit, what has most in common with the claim: the rest of it is not wrong."""

        def in_common(fit: Fit) -> int:
            return len(fit.dialect.names().items() & claim.dialect.names().items())

        return max((fit for fit in self.fits if fit.overall <= CLOSE * self.best.overall), key=in_common)

    def _as_good(self, chosen: Fit) -> list[str]:
        alike = [
            f"({fit.dialect})"
            for fit in self.fits
            if fit.dialect != chosen.dialect and fit.overall <= ALIKE * self.best.overall
        ]
        return [f"On these images nothing tells it from {listed(alike)}."] if alike else []

    def _on_labels(self) -> list[str]:
        if not self.labels or not self.fluent:
            return []
        if self.blind:
            return ["The class label changes nothing: the network is blind to it."]
        effects = self.labels.items()
        changes = [f"{effect.change:.2g} under {label}" for label, effect in effects]
        errors = [f"{error:.3g} under {label}" for label, (_, error) in effects if error is not None]
        found = [f"In units of the spread, the image changes by up to {listed(changes)}."]
        if errors:
            found.append(f"The error is multiplied by {listed(errors)}.")
        if any(error is not None and error <= 1 for _, error in self.labels.values()):
            found.append(
                "The right label is no help: it is not learnt, or the classes have other numbers here."
            )
        return found


def _spoken(dialect: Dialect) -> str:
    names = dialect.names()
    return listed([f"{_CHOICES[choice]} {name}" for choice, name in names.items()])


def _number(value: float) -> str:
    """Return an error as a table has it.

    >>> [_number(value) for value in (0.123, 312.3, 1.2e6)]
    ['0.12', '312', '1e+06']
    """
    return f"{value:.2f}" if value < 100 else f"{value:.0f}" if value < 1e4 else f"{value:.0e}"
