"""The discrete schedule of DDPM, and the curves of its betas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import overload

import torch
from torch import Tensor

from snowmelt.core.schedule import NoiseSchedule
from snowmelt.limits import STEPS

__all__ = ["BETA_SCHEDULES", "DiscreteSchedule", "make_betas"]


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
        num_timesteps: T, from 2 to 100,000.
        beta_start: in (0, 1).
        beta_end: in (0, 1).

    >>> make_betas("linear", 3, 0.1, 0.3)
    tensor([0.1000, 0.2000, 0.3000], dtype=torch.float64)
    """
    if beta_schedule not in BETA_SCHEDULES:
        raise ValueError(f"beta_schedule must be one of {', '.join(BETA_SCHEDULES)}, got {beta_schedule!r}")
    if num_timesteps < 2:
        raise ValueError(f"num_timesteps must be at least 2, got {num_timesteps}")
    if num_timesteps > STEPS:
        raise ValueError(f"num_timesteps must be at most {STEPS:,}, got {num_timesteps:.3g}")
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
    time = "index"
    usual_prediction = "eps"

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
        left = index.floor().clamp(0, self.num_timesteps - 2).long()
        fraction = (index - left).clamp(max=1.0)
        lam_left, lam_right = table[left], table[left + 1]
        lam = torch.lerp(lam_left, lam_right, fraction)
        if self._ends_in_noise:
            lam = torch.where(lam_right.isinf(), lam_left + torch.log1p(-fraction), lam)
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

    def draw_t(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw trained indices uniformly (DDPM algorithm 1) and return their times."""
        index = torch.randint(self.num_timesteps, (num,), generator=generator)
        return self.t_of_index(index.double())
