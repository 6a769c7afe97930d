"""A cell of the grid: one way to sample, and what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from torch import Tensor

from snowmelt.evaluation.evaluate import Evaluation
from snowmelt.plans import Plan

__all__ = ["COSTS", "Cell", "Cost", "Result", "Sampled", "identity_hash"]

Cost = Literal["evaluations", "seconds"]
COSTS: dict[Cost, str] = {
    "evaluations": "network evaluations an image (NFE)",
    "seconds": "seconds for all images",
}


@dataclass(frozen=True)
class Cell:
    """One way to sample.

    Attributes:
        checkpoint: of the model, as people know it.
        sampler: solver, preset or plan, as people know it.
        steps: that were asked for; None where the sampler has its own.
        guidance_scale: as for `DiffusionSampler.sample`.
        plan: what is run.
        evaluations: of a network an image (NFE), those of guidance included.
        identity: everything that decides the images, as JSON can hold it.
    """

    checkpoint: str
    sampler: str
    steps: int | None
    guidance_scale: float
    plan: Plan = field(repr=False)
    evaluations: int
    identity: Mapping[str, Any] = field(repr=False)

    @property
    def series(self) -> tuple[str, str, float]:
        """What it has in common with the cells that differ in steps only."""
        return self.checkpoint, self.sampler, self.guidance_scale


class Sampled(NamedTuple):
    """The images of a cell, as far as they are kept.

    Attributes:
        features: (N, D).
        seconds: that it took to make all N.
        pictures: uint8 (M, C, H, W), of the same seeds and classes in every cell.
    """

    features: Tensor
    seconds: float
    pictures: Tensor


@dataclass(frozen=True, eq=False)
class Result:
    """A finished cell.

    Attributes:
        cell: how its images were made.
        num_samples: N.
        seconds: that it took to make them all.
        evaluation: their figures.
        pictures: uint8 (M, C, H, W).
    """

    cell: Cell
    num_samples: int
    seconds: float
    evaluation: Evaluation
    pictures: Tensor

    def cost(self, which: Cost) -> float:
        """Return what it cost."""
        return self.cell.evaluations if which == "evaluations" else self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON knows."""
        cell = self.cell
        return {
            "checkpoint": cell.checkpoint,
            "sampler": cell.sampler,
            "steps": cell.steps,
            "guidance_scale": cell.guidance_scale,
            "evaluations": cell.evaluations,
            "num_samples": self.num_samples,
            "seconds": self.seconds,
            **self.evaluation.to_dict(),
            "identity": dict(cell.identity),
        }


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Return the SHA-256 of nested plain values, whatever the order of their keys.

    >>> identity_hash({"a": 1, "b": [2]}) == identity_hash({"b": [2], "a": 1}) != identity_hash({"a": 1})
    True
    """
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
