"""What a network predicts, as two numbers.

Every prediction in use is a combination of image and noise,

    y = a * x0 + b * eps,

with (a, b) depending on the level alone. Together with x_t = alpha * x0 + sigma * eps it can be solved for
the image,

    x0 = (b * x_t - sigma * y) / (b * alpha - a * sigma),

so that one pair serves both sides: the target of training and the decoding of sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from snowmelt.core.level import Level

__all__ = ["PARAMETERIZATIONS", "Parameterization", "edm"]


def _no_scaling(level: Level[Any]) -> Any:
    return 1.0


@dataclass(frozen=True)
class Parameterization:
    """The pair (a, b) of y = a * x0 + b * eps, as a function of the level.

    Attributes:
        name: how it is called in configurations.
        pair: level -> (a, b), floats or tensors as the level's numbers are.
        input_scale: level -> what x_t is multiplied with before the network sees it (EDM's c_in).

    >>> v = PARAMETERIZATIONS["v"]
    >>> v.pair(Level(t=0.5, alpha=0.8, sigma=0.6))
    (-0.6, 0.8)
    """

    name: str
    pair: Callable[[Level[Any]], tuple[Any, Any]]
    input_scale: Callable[[Level[Any]], Any] = _no_scaling

    def target(self, x0: Tensor, eps: Tensor, level: Level[Any]) -> Tensor:
        """Return what the network should say, a * x0 + b * eps, shaped like `x0`."""
        a, b = self.pair(level)
        target: Tensor = a * x0 + b * eps
        return target

    def x0(self, x_t: Tensor, y: Tensor, level: Level[Any]) -> Tensor:
        """Return the image that the network's output `y` at `x_t` stands for.

        Raises:
            ValueError: at a level (of floats) where `y` says nothing about the image, such as a noise
                prediction at alpha = 0.
        """
        a, b = self.pair(level)
        if isinstance(b, float) and b == 0.0:  # y is the image itself, also at sigma = 0
            return y.div(a)
        determinant = b * level.alpha - a * level.sigma
        if isinstance(determinant, float) and determinant == 0.0:
            raise ValueError(
                f"a network that predicts {self.name} says nothing about the image at t = {level.t:g}, "
                f"where alpha = {level.alpha:g} and sigma = {level.sigma:g}: start at a lower t, or train "
                "with v or x0"
            )
        x0: Tensor = (b / determinant) * x_t - (level.sigma / determinant) * y
        return x0


def edm(sigma_data: float = 0.5) -> Parameterization:
    """Return EDM's F (Karras et al. 2022, table 1 and eq. 7), for any alpha.

    With c_skip = sd^2/(sigma^2 + sd^2) and c_out = sigma sd / sqrt(sigma^2 + sd^2), the network's target
    (x0 - c_skip x_t) / c_out is a x0 + b eps with the pair below; x_t is given to it at unit variance.

    Args:
        sigma_data: standard deviation of the data, > 0.

    >>> edm(1.0).pair(Level(t=0.5, alpha=0.8, sigma=0.6))
    (0.6, -0.8)
    """
    if not sigma_data > 0:
        raise ValueError(f"sigma_data must be positive, got {sigma_data}")

    return Parameterization("edm", partial(_edm_pair, sigma_data), partial(_edm_scale, sigma_data))


# Functions with names, so that a model can be pickled and sent to another process


def _edm_scale(sigma_data: float, level: Level[Any]) -> Any:
    return (level.sigma**2 + (level.alpha * sigma_data) ** 2) ** -0.5


def _edm_pair(sigma_data: float, level: Level[Any]) -> tuple[Any, Any]:
    scale = _edm_scale(sigma_data, level)
    return level.sigma / sigma_data * scale, -level.alpha * sigma_data * scale


def _x0_pair(level: Level[Any]) -> tuple[Any, Any]:
    return 1.0, 0.0


def _eps_pair(level: Level[Any]) -> tuple[Any, Any]:
    return 0.0, 1.0


def _v_pair(level: Level[Any]) -> tuple[Any, Any]:
    return -level.sigma, level.alpha  # Salimans and Ho 2022, appendix D


def _flow_pair(level: Level[Any]) -> tuple[Any, Any]:
    return -1.0, 1.0  # the velocity of a rectified flow


PARAMETERIZATIONS: dict[str, Parameterization] = {
    "x0": Parameterization("x0", _x0_pair),
    "eps": Parameterization("eps", _eps_pair),
    "v": Parameterization("v", _v_pair),
    "flow": Parameterization("flow", _flow_pair),
    "edm": edm(),
}
