"""A cell of the grid: one way to sample, its name, and its results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import commonpath, relpath
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from snowmelt.evaluation.answers.scores import Scores
from snowmelt.evaluation.metrics import METRICS
from snowmelt.json_files import Json
from snowmelt.plans import Method

__all__ = ["COSTS", "Cell", "CellImages", "Cost", "Result", "cell_names", "series_names"]

Cost = Literal["evaluations", "seconds"]
COSTS: dict[Cost, str] = {
    "evaluations": "network evaluations per image (NFE)",
    "seconds": "seconds for all images",
}
Series = tuple[str, str, float]


@dataclass(frozen=True)
class Cell:
    """One way to sample.

    Attributes:
        checkpoint: the path of the model.
        method: how to sample.
        guidance_scale: as in `DiffusionSampler.sample`.
        evaluations: of a network for an image (NFE), including those of guidance.
        identity: all that decides the images: `DiffusionSampler.identity`.
    """

    checkpoint: str
    method: Method
    guidance_scale: float
    evaluations: int
    identity: Mapping[str, Any] = field(repr=False)

    @property
    def sampler(self) -> str:
        """The name of the method without its number of steps."""
        return str(self.method if self.method.solver is None else replace(self.method, steps=None))

    @property
    def steps(self) -> int | None:
        """The number of steps; None for a preset or a finished plan, and for all trained steps."""
        return self.method.steps if isinstance(self.method.steps, int) else None

    @property
    def series(self) -> Series:
        """What the cells have in common that differ in steps only."""
        return self.checkpoint, self.sampler, self.guidance_scale


class CellImages(NamedTuple):
    """What is kept of the images of a cell.

    Attributes:
        features: (N, D).
        seconds: the time that making all N images took.
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
        seconds: the time that making all images took.
        scores: their metrics.
        pictures: uint8 (M, C, H, W).
    """

    cell: Cell
    num_samples: int
    seconds: float
    scores: Scores
    pictures: Tensor

    def cost(self, which: Cost) -> float:
        """Return the number of evaluations or the seconds."""
        return self.cell.evaluations if which == "evaluations" else self.seconds

    def loss(self, metric: str) -> float:
        """Return a metric's value, with its sign turned if more is better."""
        return METRICS[metric].loss(self.scores.overall[metric].value)

    def to_dict(self) -> Json:
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
            **self.scores.to_dict(),
            "identity": dict(cell.identity),
        }


def series_names(cells: Iterable[Cell]) -> dict[Series, str]:
    """Return a name for each series of cells, in their order; what all have in common is left out.

    >>> cells = [Cell("model.pth", Method("ddim", 4), scale, 4, {}) for scale in (0.0, 2.0)]
    >>> list(series_names(cells).values())
    ['ddim, guidance 0', 'ddim, guidance 2']
    """
    series = list(dict.fromkeys(cell.series for cell in cells))
    models_differ, _, scales_differ = (len(set(values)) > 1 for values in zip(*series, strict=True))
    common = commonpath([Path(checkpoint).parent for checkpoint, _, _ in series])
    names = {}
    for checkpoint, sampler, scale in series:
        model = [relpath(checkpoint, common)] if models_differ else []
        guidance = [f"guidance {scale:g}"] if scales_differ else []
        names[checkpoint, sampler, scale] = ", ".join([*model, sampler, *guidance])
    return names


def cell_names(cells: Sequence[Cell]) -> list[str]:
    """Return a name for each cell: its series and its number of evaluations."""
    names = series_names(cells)
    return [f"{names[cell.series]}, {cell.evaluations} NFE" for cell in cells]
