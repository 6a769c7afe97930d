"""Noise schedules: how much image and how much noise there is at each time.

A schedule maps a time t in [0, 1] to a `Level` (t, alpha_t, sigma_t) and back from the half log
signal-to-noise ratio lam = log(alpha / sigma), which falls strictly from inf at t = 0 to its lowest value
at t = 1:

    x_t = alpha_t * x0 + sigma_t * eps.

The ends are exact: t = 0 is the clean image (sigma = 0), and where a schedule ends in pure noise
(rectified flow, cosine, zero-terminal-SNR), alpha is 0 at t = 1, not a small number.

A discrete DDPM is the same line with its trained indices as points on it: index k of T lies at
t = (k + 1) / T, so that t = 0 is the image before the first noise was added.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import overload

import torch
from torch import Tensor

from snowmelt.core.level import Level, Number

__all__ = [
    "BETA_SCHEDULES",
    "VE",
    "CosineVP",
    "DiscreteSchedule",
    "LinearVP",
    "NoiseSchedule",
    "RectifiedFlow",
    "make_betas",
]


class NoiseSchedule(ABC):
    """Abstract: a strictly decreasing signal-to-noise ratio over t in [0, 1].

    Calling it with a float gives a `Level` of floats computed in float64; with a tensor, a `Level` of
    tensors of that shape and dtype. A subclass states three tensor formulas and what its network is told.

    Attributes:
        t_min, t_max: the times between which lam is finite and worth stepping through: grids that are
            uniform in lam or sigma put their points there.
        num_timesteps: the number of trained indices, or None where time is continuous.
    """

    t_min: float
    t_max: float = 1.0
    num_timesteps: int | None = None

    @abstractmethod
    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _t_of_lam(self, lam: Tensor) -> Tensor: ...

    @abstractmethod
    def network_time(self, level: Level[Number]) -> Number:
        """What a network trained on this schedule is told about `level`."""

    @abstractmethod
    def draw_t(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `num` training times, float64 on the CPU, as the schedule's paper draws them."""

    @overload
    def __call__(self, t: float) -> Level[float]: ...
    @overload
    def __call__(self, t: Tensor) -> Level[Tensor]: ...
    def __call__(self, t: float | Tensor) -> Level[float] | Level[Tensor]:
        """Return the level at time `t` in [0, 1]; a float outside that range is a ValueError."""
        if isinstance(t, Tensor):
            return Level(t, *self._alpha_sigma(t))
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"t must lie in [0, 1] (0 is clean, 1 is noise), got {t}")
        alpha, sigma = self._alpha_sigma(torch.tensor(t, dtype=torch.float64))
        return Level(float(t), alpha.item(), sigma.item())

    @overload
    def t_of_lam(self, lam: float) -> float: ...
    @overload
    def t_of_lam(self, lam: Tensor) -> Tensor: ...
    def t_of_lam(self, lam: float | Tensor) -> float | Tensor:
        """Return the time at which log(alpha / sigma) is `lam`: the inverse of ``schedule(t).lam``.

        A float below the schedule's noisiest level is a ValueError; a tensor is clamped there.
        """
        if isinstance(lam, Tensor):
            return self._t_of_lam(lam).clamp(0.0, 1.0)
        lowest = self(1.0).lam
        if lam < lowest - 1e-9 * max(1.0, abs(lowest)):
            raise ValueError(f"lam must be at least {lowest:.6g}, its value at t = 1, got {lam:.6g}")
        return self.t_of_lam(torch.tensor(max(lam, lowest), dtype=torch.float64)).item()


# ---------------------------------------------------------------------------------------------------
# Discrete: the betas of DDPM
# ---------------------------------------------------------------------------------------------------


def _linear(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    # DDPM (Ho et al. 2020), section 4
    return torch.linspace(beta_start, beta_end, num_timesteps, dtype=torch.float64)


def _quadratic(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    # Linear in the square root; latent diffusion's "scaled linear"
    return _linear(num_timesteps, beta_start**0.5, beta_end**0.5) ** 2


def _sigmoid(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    # GeoDiff (Xu et al. 2022)
    ramp = torch.linspace(-6.0, 6.0, num_timesteps, dtype=torch.float64).sigmoid()
    return beta_start + (beta_end - beta_start) * ramp


def _cosine(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    # Improved DDPM (Nichol and Dhariwal 2021), eq. 17, with their s = 0.008 and bound 0.999
    del beta_start, beta_end  # this curve has no free ends
    u = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
    alpha_bar = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


BETA_SCHEDULES: dict[str, Callable[[int, float, float], Tensor]] = {
    "linear": _linear,
    "cosine": _cosine,
    "quadratic": _quadratic,
    "sigmoid": _sigmoid,
}


def make_betas(
    beta_schedule: str = "linear",
    num_timesteps: int = 1000,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
) -> Tensor:
    """Return the variances beta_1 .. beta_T of a named schedule, shape (num_timesteps,), float64.

    Args:
        beta_schedule: ``linear``, ``quadratic`` and ``sigmoid`` run from `beta_start` to `beta_end`;
            ``cosine`` follows its own curve and reads neither.
        num_timesteps: T >= 2.
        beta_start: in (0, 1).
        beta_end: in (0, 1).

    >>> make_betas("linear", 3, 0.1, 0.3)
    tensor([0.1000, 0.2000, 0.3000], dtype=torch.float64)
    """
    if beta_schedule not in BETA_SCHEDULES:
        raise ValueError(f"beta_schedule must be one of {', '.join(BETA_SCHEDULES)}, got {beta_schedule!r}")
    if num_timesteps < 2:
        raise ValueError(f"num_timesteps must be at least 2, got {num_timesteps}")
    for name, beta in (("beta_start", beta_start), ("beta_end", beta_end)):
        if not 0.0 < beta < 1.0:
            raise ValueError(f"{name} must lie strictly between 0 and 1, got {beta}")
    return BETA_SCHEDULES[beta_schedule](num_timesteps, beta_start, beta_end)


class DiscreteSchedule(NoiseSchedule):
    """The schedule of a DDPM trained at T indices, usable at every real t.

    alpha^2 is the cumulative product of 1 - beta (DDPM eq. 4). Between two trained indices lam is
    interpolated linearly. Below the first one, where lam runs to infinity, sigma/alpha falls linearly to 0;
    with zero terminal SNR, alpha/sigma does so above the last but one.

    Args:
        betas: shape (T,), each strictly between 0 and 1 (the last may be 1).
        zero_terminal_snr: shift and scale alpha so that it ends at exactly 0
            (Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1).

    >>> schedule = DiscreteSchedule(make_betas("linear", 1000))
    >>> schedule.index_of_t(schedule.t_of_index(999))
    999.0
    >>> DiscreteSchedule(make_betas("linear", 1000), zero_terminal_snr=True)(1.0)
    Level(t=1.0, alpha=0.0, sigma=1.0)
    """

    num_timesteps: int

    def __init__(self, betas: Tensor, zero_terminal_snr: bool = False) -> None:
        betas = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
        inside = (betas > 0) & (betas <= 1)
        if betas.ndim != 1 or len(betas) < 2 or not inside.all() or betas[:-1].max() == 1:
            raise ValueError("betas must be at least two numbers in (0, 1), of which only the last may be 1")
        log_alpha_bar = torch.log1p(-betas).cumsum(0)
        if zero_terminal_snr:
            root = (log_alpha_bar / 2).exp()
            root = (root - root[-1]) * root[0] / (root[0] - root[-1])
            log_alpha_bar = 2 * root.log()
        self.betas = betas
        self.zero_terminal_snr = zero_terminal_snr
        self.num_timesteps = len(betas)
        # lam at the trained indices: log(alpha/sigma) = (log alpha_bar - log(1 - alpha_bar)) / 2
        self._lam = (log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))) / 2
        self._ends_in_noise = bool(self._lam[-1] == -math.inf)
        self.t_min = self.t_of_index(0)
        self.t_max = self.t_of_index(self.num_timesteps - 2) if self._ends_in_noise else 1.0

    def __repr__(self) -> str:
        betas = f"{self.betas[0].item():.3g}..{self.betas[-1].item():.3g}"
        ending = ", zero_terminal_snr=True" if self.zero_terminal_snr else ""
        return f"DiscreteSchedule(betas={betas}, T={self.num_timesteps}{ending})"

    @overload
    def t_of_index(self, index: float) -> float: ...
    @overload
    def t_of_index(self, index: Tensor) -> Tensor: ...
    def t_of_index(self, index: float | Tensor) -> float | Tensor:
        """Return the time of trained index k in 0 .. T - 1: (k + 1) / T."""
        return (index + 1) / self.num_timesteps

    @overload
    def index_of_t(self, t: float) -> float: ...
    @overload
    def index_of_t(self, t: Tensor) -> Tensor: ...
    def index_of_t(self, t: float | Tensor) -> float | Tensor:
        """Return the (real) trained index at time t: T t - 1, which is -1 at the clean image."""
        return t * self.num_timesteps - 1

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        lam = self._lam_of_index(self.index_of_t(t))
        # On a variance-preserving line alpha^2 = sigmoid(2 lam) and sigma^2 = sigmoid(-2 lam)
        return (2 * lam).sigmoid().sqrt(), (-2 * lam).sigmoid().sqrt()

    def _lam_of_index(self, index: Tensor) -> Tensor:
        table = self._lam.to(index)
        left = index.floor().clamp(0, self.num_timesteps - 2)
        fraction = (index - left).clamp(max=1.0)
        lam_left, lam_right = table[left.long()], table[left.long() + 1]
        lam = torch.where(
            lam_right.isinf(), lam_left + torch.log1p(-fraction), torch.lerp(lam_left, lam_right, fraction)
        )
        return torch.where(index < 0, table[0] - torch.log1p(index.clamp(-1, 0)), lam)

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        table = self._lam.to(lam)
        rising = -table
        left = (torch.searchsorted(rising, -lam.contiguous()) - 1).clamp(0, self.num_timesteps - 2)
        lam_left, lam_right = table[left], table[left + 1]
        fraction = torch.where(
            lam_right.isinf(), -torch.expm1(lam - lam_left), (lam - lam_left) / (lam_right - lam_left)
        )
        below_first = torch.expm1(table[0] - lam)
        return self.t_of_index(torch.where(lam > table[0], below_first, left + fraction))

    def network_time(self, level: Level[Number]) -> Number:
        """Return the trained index of `level`, a real number."""
        return self.index_of_t(level.t)

    def draw_t(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw trained indices uniformly (DDPM algorithm 1) and return their times."""
        index = torch.randint(self.num_timesteps, (num,), generator=generator)
        return self.t_of_index(index.double())


# ---------------------------------------------------------------------------------------------------
# Continuous
# ---------------------------------------------------------------------------------------------------


def _uniform(num: int, generator: torch.Generator | None) -> Tensor:
    # (0, 1] rather than [0, 1): there is nothing to learn at the clean image
    return 1 - torch.rand(num, generator=generator, dtype=torch.float64)


class LinearVP(NoiseSchedule):
    """Variance preserving with a linear rate: the VP SDE of Song et al. 2021 (eq. 32 and 33).

    log alpha_t = -(beta_max - beta_min) t^2 / 4 - beta_min t / 2,  sigma_t^2 = 1 - alpha_t^2.

    Args:
        beta_min: rate at t = 0, > 0.
        beta_max: rate at t = 1, > beta_min.

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

    def network_time(self, level: Level[Number]) -> Number:
        """Return 1000 t, so that embeddings made for a thousand indices fit."""
        return level.t * 1000

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

    def network_time(self, level: Level[Number]) -> Number:
        """Return 1000 t, so that embeddings made for a thousand indices fit."""
        return level.t * 1000

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

    def network_time(self, level: Level[Number]) -> Number:
        """Return log(sigma) / 4 (EDM's c_noise)."""
        return -level.lam / 4

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

    def _alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def _t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-lam)

    def network_time(self, level: Level[Number]) -> Number:
        """Return 1000 t, so that embeddings made for a thousand indices fit."""
        return level.t * 1000

    def draw_t(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw times from a logit-normal distribution (Esser et al. 2024, section 3.1)."""
        return torch.randn(num, generator=generator, dtype=torch.float64).sigmoid()
