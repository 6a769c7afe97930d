"""Which noise levels training sees, and how often.

A distribution is its quantile function: it turns u, uniform in (0, 1], into a time. So every distribution can
be drawn independently, or stratified. Those with a shape of their own have it in

    log(sigma / alpha) = -lam,

the one frame that all schedules share; a shift moves it by a constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snowmelt.core import NoiseSchedule
from snowmelt.errors import InputError
from snowmelt.training.named import complete

__all__ = ["DISTRIBUTIONS", "Times", "log_normal", "logit_normal", "uniform"]


def uniform(schedule: NoiseSchedule, u: Tensor) -> Tensor:
    """Return t = u: uniform in the schedule's time (Ho et al. 2020, algorithm 1; Song et al. 2021, eq. 7)."""
    return u


def log_normal(schedule: NoiseSchedule, u: Tensor, mean: float = -1.2, std: float = 1.2) -> Tensor:
    """Return times at which ln(sigma / alpha) ~ N(mean, std^2) (Karras et al. 2022, table 1).

    >>> from snowmelt.core import VE
    >>> schedule = VE()
    >>> t = log_normal(schedule, torch.tensor([0.5], dtype=torch.float64))
    >>> schedule(t).sigma.log()
    tensor([-1.2000], dtype=torch.float64)
    """
    # What is noisier than the schedule's noisiest level is drawn there
    normal: Tensor = torch.special.ndtri(u)
    return schedule.t_of_lam(-(mean + std * normal))


def logit_normal(schedule: NoiseSchedule, u: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Return times at which logit(t) ~ N(mean, std^2) on the rectified flow (Esser et al. 2024, section 3.1).

    There logit(t) = ln(t / (1 - t)) = ln(sigma / alpha): it is the log-normal distribution with other
    numbers, and so it has a meaning on every schedule.

    >>> from snowmelt.core import RectifiedFlow
    >>> logit_normal(RectifiedFlow(), torch.tensor([0.5], dtype=torch.float64))
    tensor([0.5000], dtype=torch.float64)
    """
    return log_normal(schedule, u, mean, std)


DISTRIBUTIONS: dict[str, Callable[..., Tensor]] = {
    "uniform": uniform,
    "log_normal": log_normal,
    "logit_normal": logit_normal,
}


@dataclass(frozen=True)
class Times:
    """How training times are drawn.

    A discrete schedule trains at T indices: each stands for the T-th part of the time that ends with it.

    Args:
        distribution: a key of `DISTRIBUTIONS`; None draws as the schedule's paper does.
        options: of its function, which fills in the others.
        stratified: draw one time from each of B equally likely parts of the distribution, B being the batch.
        shift: multiplies sigma / alpha, > 0. Esser et al. 2024 (eq. 23) shift the times of larger images by
            the root of the ratio of their pixels: on the rectified flow t becomes s t / (1 + (s - 1) t).

    Raises:
        InputError: a name or an option is unknown, a number is out of range, or what needs a distribution
            has none.

    >>> from snowmelt.core import RectifiedFlow
    >>> times = Times("uniform", stratified=True)
    >>> t = times.draw(RectifiedFlow(), 4)
    >>> (4 * t).ceil().sort().values
    tensor([1., 2., 3., 4.], dtype=torch.float64)
    """

    distribution: str | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    stratified: bool = False
    shift: float = 1.0

    def __post_init__(self) -> None:
        """Check the options, and complete them."""
        if not 0 < self.shift < math.inf:
            raise InputError(f"shift must be a positive number, got {self.shift}")
        if self.distribution is not None:
            options = complete("distribution", self.distribution, DISTRIBUTIONS, self.options)
            object.__setattr__(self, "options", options)
        elif self.options or self.stratified or self.shift != 1:
            raise InputError(
                "options, stratified and shift need a distribution of the times: one of "
                f"{', '.join(DISTRIBUTIONS)}; without one, times are drawn as the schedule's paper draws them"
            )

    @classmethod
    def of(cls, given: str | Times | None) -> Times:
        """Return the times of a distribution from its name, or as they are."""
        return given if isinstance(given, Times) else cls(given)

    def draw(self, schedule: NoiseSchedule, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `num` training times in (0, 1], float64 on the CPU."""
        if self.distribution is None:
            return schedule.draw_t(num, generator)
        # (0, 1] rather than [0, 1): there is nothing to learn at the clean image
        u = 1 - torch.rand(num, generator=generator, dtype=torch.float64)
        if self.stratified:
            u = (torch.randperm(num, generator=generator) + u) / num
        t = DISTRIBUTIONS[self.distribution](schedule, u, **self.options)
        if self.shift != 1:
            t = schedule.t_of_lam(schedule(t).lam - math.log(self.shift))
        if schedule.num_timesteps is None:
            return t
        return (t * schedule.num_timesteps).ceil().clamp(min=1) / schedule.num_timesteps
