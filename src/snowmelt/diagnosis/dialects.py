"""Dialects: everything about a network that raises no error when it is mistaken.

A sampler has to know the schedule that a network was trained on, what it predicts, what it is told about the
level, and in which range its images live. Each combination is a dialect; `dialects` lists those in use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from snowmelt.adapters.flow import TO_IMAGE
from snowmelt.core import (
    PARAMETERIZATIONS,
    VE,
    DiscreteSchedule,
    Level,
    NoiseSchedule,
    Parameterization,
    RectifiedFlow,
    make_betas,
)
from snowmelt.core.times import TIMES, Time

__all__ = ["RANGES", "SCHEDULES", "Dialect", "dialects"]

RANGES: dict[str, tuple[float, float]] = {
    "[-1, 1]": (-1.0, 1.0),
    "[0, 1]": (0.0, 1.0),
    "[0, 255]": (0.0, 255.0),
}

SCHEDULES: dict[str, NoiseSchedule] = {
    "ve": VE(),
    "flow": RectifiedFlow(),
    "ddpm-linear": DiscreteSchedule(make_betas("linear")),
    "ddpm-cosine": DiscreteSchedule(make_betas("cosine")),
    "latent-diffusion": DiscreteSchedule(make_betas("quadratic", 1000, 0.00085, 0.012)),
}


@dataclass(frozen=True)
class Dialect:
    """What a network is fed, what it is told, and what it answers.

    Attributes:
        parameterization: what it answers.
        time: the name of what it is told.
        data_range: a key of `RANGES`, where its images live.
        schedule_name: what the schedule is called.
        schedule: the noise that its images have.
        tell: what it is told.
    """

    parameterization: Parameterization
    time: str
    data_range: str
    schedule_name: str
    schedule: NoiseSchedule
    tell: Time

    def __str__(self) -> str:
        return f"{self.parameterization.name}, {self.time}, {self.data_range}, {self.schedule_name}"

    def names(self) -> dict[str, str]:
        """Return the four choices that make it, in words."""
        return {
            "parameterization": self.parameterization.name,
            "time": self.time,
            "data_range": self.data_range,
            "schedule": self.schedule_name,
        }

    @property
    def half_width(self) -> float:
        """Half the width of its data range: 1 for images in [-1, 1]."""
        low, high = RANGES[self.data_range]
        return (high - low) / 2

    def native(self, images: Tensor) -> Tensor:
        """Return images in [-1, 1] as its own."""
        return RANGES[self.data_range][0] + (images + 1) * self.half_width

    def level(self, noise: float) -> Level[float] | None:
        """Return the level where sigma/alpha is about `noise`, or None where the schedule never gets there.

        A network that is told an index is asked at trained indices only.
        """
        lam = -math.log(noise)
        if not self.schedule(self.schedule.t_max).lam <= lam <= self.schedule(self.schedule.t_min).lam:
            return None
        t = self.schedule.t_of_lam(lam)
        if self.time == "index" and isinstance(self.schedule, DiscreteSchedule):
            t = self.schedule.t_of_index(round(self.schedule.index_of_t(t)))
        return self.schedule(t)


def dialects(claim: Dialect | None) -> list[Dialect]:
    """Return the claimed dialect, if there is one, and all others that are worth trying.

    The claimed schedule is tried with every time, prediction and range, and so are those of `SCHEDULES`. What
    would be the same numbers under another name is listed once.

    >>> len(dialects(None))
    276
    """
    schedules, predictions = dict(SCHEDULES), [*PARAMETERIZATIONS.values(), TO_IMAGE]
    feeds = []
    if claim is not None:
        schedules = {claim.schedule_name: claim.schedule, **schedules}
        predictions = [claim.parameterization, *predictions]
        feeds = [(claim.time, claim.schedule_name, claim.schedule, claim.tell)]
    feeds += [(time, *named, TIMES[time]) for named in schedules.items() for time in _times(named[1])]

    distinct: dict[object, Dialect] = {}
    for time, name, schedule, tell in feeds:
        spoken = [Dialect(*pair, name, schedule, tell) for pair in product(predictions, [time], RANGES)]
        levels = [spoken[0].level(noise) for noise in (0.1, 0.5, 2.0, 10.0)]
        for dialect in spoken:
            distinct.setdefault(_numbers(dialect, levels), dialect)
    return list(distinct.values())


def _times(schedule: NoiseSchedule) -> Iterator[str]:
    """Yield the conventions that make sense on a schedule."""
    if isinstance(schedule, DiscreteSchedule):
        yield from ("index", "t")
        if schedule.num_timesteps != 1000:  # where 1000 t is the index, but for one
            yield "1000t"
    elif not isinstance(schedule, VE):  # whose t is not told to anybody
        yield from ("t", "1-t", "1000t", "1000(1-t)")
    yield from ("sigma", "log(sigma)/4")


def _numbers(dialect: Dialect, levels: Sequence[Level[float] | None]) -> tuple[object, ...]:
    """Return all that decides which image a network's answer stands for, at a few levels.

    That is how much image and noise it is fed, what it is told, and the weights of x_t and y in x0.
    """
    one = torch.ones((), dtype=torch.float64)
    numbers: list[float] = []
    for level in levels:
        if level is None:
            numbers.append(math.nan)
            continue
        scale, x0 = dialect.parameterization.input_scale(level), dialect.parameterization.x0
        weights = x0(one / scale, 0 * one, level).item(), x0(0 * one, one, level).item()
        told = dialect.tell(dialect.schedule, level)
        numbers += [scale * level.alpha, scale * level.sigma, told, *weights]
    return dialect.data_range, *(f"{number:.6g}" for number in numbers)
