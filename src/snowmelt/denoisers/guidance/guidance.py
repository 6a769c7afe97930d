"""The interface of all guidance methods: when one acts, what it costs, and the denoiser that it makes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from snowmelt.core import Level
from snowmelt.denoisers.denoiser import Denoiser
from snowmelt.denoisers.guidance.schedules import SCHEDULES, Share

__all__ = ["Guidance", "PlanTable", "Strength", "network_evaluations"]

Strength = Callable[[Level[float]], float]
Batched = Callable[[Denoiser], Denoiser]


class _Terms(Protocol):
    @property
    def x(self) -> float: ...
    @property
    def y(self) -> float: ...
    @property
    def m(self) -> tuple[float, ...]: ...


class _Row(Protocol):
    @property
    def level(self) -> Level[float]: ...
    @property
    def advance(self) -> _Terms: ...


class PlanTable(Protocol):
    """What guidance asks of a `snowmelt.plans.Plan`, which stands a floor above."""

    @property
    def rows(self) -> Sequence[_Row]:
        """The table, one row a call of the denoiser."""

    @property
    def levels(self) -> Sequence[Level[float]]:
        """The level of every row, then the level of the result."""

    @property
    def quantity(self) -> Literal["x0", "eps", "v"]:
        """Which of the denoiser's outputs the rows weigh."""

    @property
    def history(self) -> int:
        """How many outputs a row looks at."""

    @property
    def corrects(self) -> bool:
        """Whether a row changes the base state x."""


@dataclass(frozen=True, kw_only=True)
class Guidance(ABC):
    """Abstract: a way to strengthen the condition, with everything but the scale settled.

    It is a value, not a denoiser: `wrap` puts it around one, once the scale and the plan are known.

    Args:
        interval: (low, high); guidance acts at levels in low < . <= high only, and what it needs is not
            computed elsewhere (Kynkäänniemi et al. 2024, https://arxiv.org/abs/2404.07724). None: everywhere.
        interval_in: what the interval is in: ``"sigma"`` for sigma/alpha, or ``"t"``.
        schedule: how much of the guidance acts at each level: a key of `SCHEDULES`, or a function of the
            level.

    Attributes:
        name: its key in `GUIDANCE`.
        needs_labels: whether it has a meaning only where the images have classes.

    Raises:
        ValueError: an option is out of its range.
    """

    name: ClassVar[str]
    needs_labels: ClassVar[bool] = True

    interval: tuple[float, float] | None = None
    interval_in: Literal["sigma", "t"] = "sigma"
    schedule: str | Share = "constant"

    def __post_init__(self) -> None:
        if self.interval is not None:
            interval = tuple(self.interval)
            if len(interval) != 2 or not 0 <= interval[0] < interval[1]:
                raise ValueError(f"interval must be two numbers 0 <= low < high, got {self.interval}")
            object.__setattr__(self, "interval", interval)  # a list, as YAML has it, is not hashable
        if self.interval_in not in ("sigma", "t"):
            raise ValueError(
                f"interval_in must be sigma (that is sigma/alpha) or t, got {self.interval_in!r}"
            )
        if not callable(self.schedule) and self.schedule not in SCHEDULES:
            raise ValueError(
                f"schedule must be one of {', '.join(SCHEDULES)}, or a function of the level, "
                f"got {self.schedule!r}"
            )

    @property
    def networks(self) -> tuple[object, ...]:
        """What it evaluates beside the denoiser: to be moved to the device and held in eval mode."""
        return ()

    def describe(self) -> dict[str, object]:
        """Return the method and its options as JSON can hold them; its networks are left out.

        >>> from snowmelt.denoisers.guidance import CFG
        >>> CFG(interval=(0.3, 3.0)).describe()["interval"]
        [0.3, 3.0]
        """
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = {name: value for name, value in options.items() if not _is_among(value, self.networks)}
        return {"type": self.name, **{name: _plain(value) for name, value in kept.items()}}

    def share(self, level: Level[float]) -> float:
        """Return how much of the guidance acts at `level`: the schedule's share, 0 outside the interval.

        >>> from snowmelt.denoisers.guidance import CFG
        >>> guidance = CFG(interval=(0.0, 0.5), interval_in="t", schedule="linear")
        >>> guidance.share(Level(0.25, 0.75, 0.25)), guidance.share(Level(0.75, 0.25, 0.75))
        (1.5, 0.0)
        """
        if self.interval is not None:
            at = level.t if self.interval_in == "t" else _noise(level)
            if not self.interval[0] < at <= self.interval[1]:
                return 0.0
        share = SCHEDULES[self.schedule] if isinstance(self.schedule, str) else self.schedule
        return share(level)

    @abstractmethod
    def guides(self, scale: float) -> bool:
        """Return whether a sampler's `guidance_scale` of this size asks for guidance at all."""

    @abstractmethod
    def evaluations(self, scale: float, plan: PlanTable) -> int:
        """Return how often a network is evaluated for one image while this guidance is on."""

    @abstractmethod
    def wrap(
        self,
        denoiser: Denoiser,
        scale: float,
        *,
        null_class: int | None,
        plan: PlanTable,
        batched: Batched = lambda denoiser: denoiser,
    ) -> Denoiser:
        """Return `denoiser` under this guidance.

        Args:
            denoiser: what is to be guided.
            scale: finite; what it means is the method's to say.
            null_class: the label that stands for no condition; None where the denoiser has none.
            plan: what the denoiser will be run with.
            batched: put around each network of the guidance's own, as it is around `denoiser` already.

        Raises:
            ValueError: the method has no meaning for this denoiser or this plan.
        """


def network_evaluations(plan: PlanTable, guidance: Guidance, scale: float) -> int:
    """Return how often a network is evaluated for one image: where guidance acts, a row counts twice.

    A classifier's evaluations are not among them; a weaker network's count as full ones.

    Args:
        plan: what is run.
        guidance: as given to the sampler.
        scale: the sampler's `guidance_scale`.

    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.denoisers.guidance import CFG
    >>> from snowmelt.plans import make_plan
    >>> plan = make_plan(RectifiedFlow(), "ddim", steps=4)
    >>> some = CFG(interval=(0.2, 0.6), interval_in="t")
    >>> [network_evaluations(plan, *how) for how in ((CFG(), 0.0), (CFG(), 3.0), (some, 3.0))]
    [4, 8, 6]
    """
    return guidance.evaluations(scale, plan) if guidance.guides(scale) else len(plan.rows)


def per_image(measure: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """Return a number an image, (B, 1, ...), that broadcasts against the images.

    Each image is measured alone: one reduction over a batch would split its sums by the batch's size, and an
    image's last bits would depend on its company.
    """
    numbers = torch.stack([measure(*images) for images in zip(*batches, strict=True)])
    return numbers.view(-1, *[1] * (batches[0].ndim - 1))


def fixed(scale: float | Strength) -> Strength:
    """Return a scale as a function of the level."""
    return scale if callable(scale) else partial(_constant, scale)


def _constant(scale: float, level: Level[float]) -> float:
    del level
    return scale


def _is_among(value: object, others: Sequence[object]) -> bool:
    return any(value is other for other in others)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return getattr(value, "__qualname__", repr(value)) if callable(value) else value


def _noise(level: Level[float]) -> float:
    return level.sigma / level.alpha if level.alpha else math.inf
