"""Problems whose solution is known: exact denoisers, and the path that each noise takes to its image.

In the frame x / alpha, against sigma / alpha, the probability flow ODE does not know the noise schedule:

    d(x/alpha) / d(sigma/alpha) = (x/alpha - D) / (sigma/alpha).

One accurate solution, from pure noise down to the image, is therefore the truth for every schedule: each
enters the path at its own highest noise level. The path is computed in the bounded coordinate
u = sigma/(alpha + sigma), a rectified flow's time, where it is smooth at both ends, and checked against a
closed form or a second solution in log(sigma/alpha).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from snowmelt.core import VE, CosineVP, DiscreteSchedule, Level, NoiseSchedule, RectifiedFlow, make_betas
from snowmelt.data import load_digits_split
from snowmelt.denoisers import ClassifierFreeGuidance

__all__ = ["SCHEDULES", "CorrelatedGaussian", "Mixture", "Path", "Problem", "problems", "ring", "solve"]

SCHEDULES: dict[str, NoiseSchedule] = {
    "DDPM": DiscreteSchedule(make_betas()),
    "cosine": CosineVP(),
    "EDM": VE(),
    "flow": RectifiedFlow(),
}
GUIDANCE_SCALE = 3.0


# -- exact denoisers -----------------------------------------------------------------------------------


class Mixture:
    """E[x0 | x_t] for a weighted mixture of Gaussians of one standard deviation; fast for many components.

    Args:
        means: (K, D), float64.
        std: of each component.
        weights: (K,), need not add up to 1.
        class_labels: (K,), counted from 0; None and labels above them mean no condition.
    """

    def __init__(
        self, means: Tensor, std: float, weights: Tensor | None = None, class_labels: Tensor | None = None
    ) -> None:
        self.means, self.std = means, std
        self.log_weights = torch.zeros(len(means), dtype=means.dtype) if weights is None else weights.log()
        self.square = means.square().sum(1)
        self.log_prior = self.log_weights[None]  # one row a class, and a last one for no condition
        if class_labels is not None:
            classes = torch.arange(int(class_labels.max()) + 1)[:, None]
            of_class = self.log_weights.masked_fill(class_labels != classes, -torch.inf)
            self.log_prior = torch.cat([of_class, self.log_prior])

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        """Return the posterior mean, (B, D); x_t's own square drops out of the softmax."""
        variance = (level.alpha * self.std) ** 2 + level.sigma**2
        no_condition = len(self.log_prior) - 1
        rows = no_condition if class_labels is None else class_labels.clamp(max=no_condition)
        bias = self.log_prior[rows] - level.alpha**2 / (2 * variance) * self.square
        logits = torch.addmm(bias, x_t, self.means.T, alpha=level.alpha / variance)
        mean = logits.softmax(1) @ self.means
        return mean + level.alpha * self.std**2 / variance * (x_t - level.alpha * mean)

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw `num` points of the data itself."""
        index = torch.multinomial(self.log_weights.exp(), num, replacement=True, generator=generator)
        noise = torch.randn(num, self.means.shape[1], dtype=self.means.dtype, generator=generator)
        return self.means[index] + self.std * noise


class CorrelatedGaussian:
    """E[x0 | x_t] for N(mean, covariance), with the ODE's solution in closed form.

    Args:
        mean: (D,), float64.
        covariance: (D, D), positive definite.
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean = mean
        self.variances, self.axes = torch.linalg.eigh(covariance)

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        """Return mean + alpha C (alpha^2 C + sigma^2)^-1 (x_t - alpha mean)."""
        gain = level.alpha * self.variances / (level.alpha**2 * self.variances + level.sigma**2)
        return self.mean + ((x_t - level.alpha * self.mean) @ self.axes * gain) @ self.axes.T

    def solution(self, noise: Tensor) -> Tensor:
        """Return where pure noise flows: along each axis x/alpha - mean grows as sqrt(var + sigma^2)."""
        return self.mean + (noise @ self.axes * self.variances.sqrt()) @ self.axes.T


# -- problems ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Path:
    """What becomes of each noise.

    Attributes:
        states: x/alpha at the highest noise sigma/alpha of each schedule.
        noise: x at pure noise, where alpha = 0.
        images: x0.
        disagreement: RMS difference between two ways to compute `images`, relative to their spread.
    """

    states: dict[float, Tensor]
    noise: Tensor
    images: Tensor
    disagreement: float

    def state(self, level: Level[float]) -> Tensor:
        """Return x at `level`, the first level of a schedule."""
        if level.alpha == 0:
            return level.sigma * self.noise
        noise = level.sigma / level.alpha
        nearest = min(self.states, key=lambda known: abs(math.log(known / noise)))
        if not math.isclose(nearest, noise, rel_tol=1e-6):
            raise ValueError(f"the path was not stored at sigma/alpha = {noise:g}, only at {[*self.states]}")
        return level.alpha * self.states[nearest]

    def error(self, images: Tensor) -> float:
        """Return the RMS error of `images` relative to the spread of the truth; inf for a broken run."""
        spread = (self.images - self.images.mean(0)).square().mean().sqrt()
        error = ((images - self.images).square().mean().sqrt() / spread).item()
        return error if math.isfinite(error) else math.inf


@dataclass(frozen=True)
class Problem:
    """A denoiser, the schedules to try it on and how to start.

    Attributes:
        denoiser: exact, or a network.
        noise: the initial noise, (B, ...), of variance 1.
        class_labels: (B,) or None.
        schedules: by name.
        solution: noise -> images, where a closed form is known.
    """

    name: str
    denoiser: Callable[..., Tensor]
    noise: Tensor
    class_labels: Tensor | None = None
    schedules: dict[str, NoiseSchedule] = field(default_factory=lambda: SCHEDULES)
    solution: Callable[[Tensor], Tensor] | None = None

    def denoise(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        """The denoiser with the problem's own labels."""
        return self.denoiser(x_t, level, self.class_labels)


def ring() -> Mixture:
    """Eight Gaussians of unequal weight on a circle."""
    angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    return Mixture(torch.stack([angle.cos(), angle.sin()], 1), 0.1, torch.arange(1.0, 9.0).double())


def problems(samples: int = 128) -> list[Problem]:
    """The four exact problems, always the same; the digits with `samples` of them."""
    generator = torch.Generator().manual_seed(0)

    def noise(num: int, *shape: int) -> Tensor:
        return torch.randn(num, *shape, dtype=torch.float64, generator=generator)

    axes, _ = torch.linalg.qr(noise(16, 16))
    covariance = axes @ torch.diag(torch.logspace(-3, 0, 16, dtype=torch.float64)) @ axes.T
    gaussian = CorrelatedGaussian(0.3 * noise(16), covariance)
    pixels, labels = (torch.from_numpy(array) for array in load_digits_split())
    digits = Mixture(pixels.double(), 0.1, class_labels=labels)
    wanted = torch.arange(samples) % 10
    return [
        Problem("2-D mixture", ring(), noise(512, 2)),
        Problem("Gaussian", gaussian, noise(128, 16), solution=gaussian.solution),
        Problem("digits", digits, noise(samples, 64)),
        Problem(
            "guided digits", ClassifierFreeGuidance(digits, GUIDANCE_SCALE, 10), noise(samples, 64), wanted
        ),
    ]


# -- the truth -----------------------------------------------------------------------------------------


def solve(problem: Problem, checked: int = 8) -> Path:
    """Return the problem's path, to about ten digits; `checked` samples are solved a second way."""
    entries = {first_noise(schedule) for schedule in problem.schedules.values()}
    stops = sorted((noise / (1 + noise) for noise in entries), reverse=True)

    def velocity(u: float, x: Tensor) -> Tensor:
        return (x - problem.denoise(x, Level(u, 1 - u, u))) / u

    x, u, states = problem.noise, 1.0, {}
    for stop in stops:
        x, u = _runge_kutta(velocity, x, u, stop), stop
        states[u / (1 - u)] = x / (1 - u)
    last = 1e-6
    images = problem.denoise(_runge_kutta(velocity, x, u, last), Level(last, 1 - last, last))

    if problem.solution:
        others, ours = problem.solution(problem.noise), images
    else:
        others, ours = _in_log_noise(problem, states, checked), images[:checked]
    spread = images.std(0).square().mean().sqrt()
    difference = ((ours - others).square().mean().sqrt() / spread).item()
    return Path(states, problem.noise, images, difference)


def first_noise(schedule: NoiseSchedule) -> float:
    """The highest finite sigma/alpha from which a method that cannot start at alpha = 0 starts."""
    return math.exp(-schedule(schedule.t_max).lam)


def _in_log_noise(problem: Problem, states: dict[float, Tensor], num: int) -> Tensor:
    """Solve d(x/alpha)/d log(sigma/alpha) = x/alpha - D for the first samples."""
    part = Problem("", problem.denoiser, problem.noise[:num], _first(problem.class_labels, num))
    first, last = min(states), 1e-6

    def slope(log_noise: float, x: Tensor) -> Tensor:
        return x - part.denoise(x, Level(0.0, 1.0, math.exp(log_noise)))

    x = _runge_kutta(slope, states[first][:num], math.log(first), math.log(last))
    return part.denoise(x, Level(0.0, 1.0, last))


def _first(labels: Tensor | None, num: int) -> Tensor | None:
    return None if labels is None else labels[:num]


def _runge_kutta(slope: Callable[[float, Tensor], Tensor], x: Tensor, start: float, end: float) -> Tensor:
    """Dormand and Prince's pair of order 8 with adaptive steps."""

    def flat(at: float, state: np.ndarray) -> np.ndarray:
        return slope(at, torch.from_numpy(state).view_as(x)).numpy().ravel()

    solution = solve_ivp(
        flat, (start, end), x.numpy().ravel(), method="DOP853", rtol=1e-10, atol=1e-11, t_eval=[end]
    )
    if not solution.success:
        raise RuntimeError(f"the reference solution failed: {solution.message}")
    return torch.from_numpy(solution.y[:, -1].copy()).view_as(x)
