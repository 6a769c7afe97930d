"""Schedules in continuous time: variance preserving, variance exploding, and the straight line."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snowmelt.core.schedule import NoiseSchedule

__all__ = ["VE", "CosineVP", "LinearVP", "RectifiedFlow"]


def _uniform(num: int, generator: torch.Generator | None) -> Tensor:
    # (0, 1] rather than [0, 1): there is nothing to learn at the clean image
    return 1 - torch.rand(num, generator=generator, dtype=torch.float64)


class LinearVP(NoiseSchedule):
    """Variance preserving with a linear rate: the VP SDE of Song et al. 2021 (eq. 32 and 33).

    log alpha_t = -(beta_max - beta_min) t^2 / 4 - beta_min t / 2,  sigma_t^2 = 1 - alpha_t^2.

    Args:
        beta_min: rate at t = 0, > 0.
        beta_max: rate at t = 1, > beta_min.

    >>> LinearVP()
    LinearVP(beta_min=0.1, beta_max=20.0)
    >>> LinearVP()(0.0)
    Level(t=0.0, alpha=1.0, sigma=0.0)
    """

    t_min = 1e-3

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        if not 0.0 < beta_min < beta_max:
            raise ValueError(f"0 < beta_min < beta_max is needed, got {beta_min} and {beta_max}")
        self.beta_min, self.beta_max = beta_min, beta_max

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha = -(self.beta_max - self.beta_min) * t**2 / 4 - self.beta_min * t / 2
        return log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        # a t^2 + b t = -2 log alpha = log(1 + exp(-2 lam)), solved without cancellation
        a, b = (self.beta_max - self.beta_min) / 2, self.beta_min
        rhs = torch.nn.functional.softplus(-2 * lam)
        return 2 * rhs / (b + (b * b + 4 * a * rhs).sqrt())

    def draw_t(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw times uniformly from (0, 1]."""
        return _uniform(num, generator)


class CosineVP(NoiseSchedule):
    """Variance preserving on a quarter circle: alpha = cos(pi t / 2), sigma = sin(pi t / 2).

    The cosine schedule without an offset (Salimans and Ho 2022, section 2); pure noise at t = 1.

    >>> CosineVP()(1.0)
    Level(t=1.0, alpha=0.0, sigma=1.0)
    """

    t_min, t_max = 1e-3, 1 - 1e-3

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # Two sines rather than a cosine: sin(0) is exactly 0, cos(pi/2) is not
        return torch.sin((1 - t) * (math.pi / 2)), torch.sin(t * (math.pi / 2))

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.atan(torch.exp(-lam)) * (2 / math.pi)

    def draw_t(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw times uniformly from (0, 1]."""
        return _uniform(num, generator)


class VE(NoiseSchedule):
    """Variance exploding, the frame of EDM (Karras et al. 2022): alpha = 1, sigma = sigma_max t^rho.

    With rho = 7, steps that are even in t are about those of EDM's eq. 5. The network is told
    log(sigma) / 4, and training draws log sigma from a normal distribution (EDM table 1).

    Args:
        sigma_min: the lowest noise worth stepping through, > 0.
        sigma_max: noise at t = 1, > sigma_min.
        rho: how strongly times crowd towards small noise, > 0.
        log_sigma_mean, log_sigma_std: of the training distribution.

    >>> VE()(1.0)
    Level(t=1.0, alpha=1.0, sigma=80.0)
    """

    time = "log(sigma)/4"
    usual_prediction = "edm"

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        log_sigma_mean: float = -1.2,
        log_sigma_std: float = 1.2,
    ) -> None:
        if not (0.0 < sigma_min < sigma_max and rho > 0.0):
            raise ValueError(
                f"0 < sigma_min < sigma_max and rho > 0 are needed, got {sigma_min}, {sigma_max} and {rho}"
            )
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho
        self.log_sigma_mean, self.log_sigma_std = log_sigma_mean, log_sigma_std
        self.t_min = (sigma_min / sigma_max) ** (1 / rho)

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.sigma_max * t**self.rho

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.exp(-(lam + math.log(self.sigma_max)) / self.rho)

    def draw_t(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw log sigma from a normal distribution, none above sigma_max, and return the times."""
        log_sigma = torch.randn(num, generator=generator, dtype=torch.float64)
        return self.t_of_lam(-(self.log_sigma_mean + self.log_sigma_std * log_sigma))


class RectifiedFlow(NoiseSchedule):
    """The straight line between image and noise: alpha = 1 - t, sigma = t (Liu et al. 2023).

    >>> RectifiedFlow()(0.25)
    Level(t=0.25, alpha=0.75, sigma=0.25)
    """

    t_min, t_max = 1e-3, 1 - 1e-3
    usual_prediction = "flow"

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-lam)

    def draw_t(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw times from a logit-normal distribution (Esser et al. 2024, section 3.1)."""
        return torch.randn(num, generator=generator, dtype=torch.float64).sigmoid()
