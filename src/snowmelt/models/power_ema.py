"""The average over a share of the run: EDM2's power function, and averages of any width after the run.

The average after step t weighs the weights of step tau with

    p_gamma(tau, t) = (gamma + 1) tau^gamma / t^(gamma + 1)      (Karras et al. 2024, section 3.1)

Its profile has the same shape at every t, so that it suits short and long runs. Its width sigma_rel, a share
of the run, is the standard deviation of tau / t. Snapshots of a few such averages, taken over a run, are
functions of tau whose combinations come close to any other one (section 3.2, algorithm 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

__all__ = ["WIDEST", "check_width", "exponent_of", "inner_product", "snapshot_weights", "width_of"]

WIDEST = 12**-0.5  # of gamma = 0, the plain mean of all steps


def check_width(width: object) -> float:
    """Return a width, or raise ValueError unless it lies between 0 and `WIDEST`.

    >>> check_width(0.1)
    0.1
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0.0 < width <= WIDEST:
        raise ValueError(
            "the width of an average is a share of the run, above 0 and up to 0.2886 (mean of all steps), "
            f"got {str(width)[:40]}"
        )
    return float(width)


def width_of(gamma: float) -> float:
    """Return the relative width of the profile with this exponent, gamma >= 0.

    >>> round(width_of(6.94), 3), width_of(0.0) == WIDEST
    (0.1, True)
    """
    # sigma_rel = (gamma + 1)^(1/2) (gamma + 2)^-1 (gamma + 3)^(-1/2): the deviation of a beta distribution
    return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


@lru_cache
def exponent_of(width: float) -> float:
    """Return the exponent gamma of the profile with this relative width.

    >>> round(exponent_of(0.10), 2), round(exponent_of(0.05), 2)
    (6.94, 16.97)
    """
    # The positive root of (gamma + 2)^2 (gamma + 3) - (gamma + 1) / sigma_rel^2 (appendix C, algorithm 2)
    roots = np.roots([1.0, 7.0, 16.0 - width**-2, 12.0 - width**-2])
    return max(0.0, float(roots.real.max()))


def inner_product(t: float, gamma: float, other_t: float, other_gamma: float) -> float:
    """Return the integral over tau of the profiles of two averages, each after its t steps.

    >>> inner_product(4.0, 0.0, 2.0, 0.0)  # a quarter times a half, over two steps
    0.25
    """
    # With a = gamma + 1: a a' t^-a t'^-a' min(t, t')^(a + a' - 1) / (a + a' - 1). One of the powers is 1
    a, b, least = gamma + 1, other_gamma + 1, min(t, other_t)
    overlap: float = (least / t) ** a * (least / other_t) ** b
    return a * b * overlap / (least * (a + b - 1))


def snapshot_weights(times: Sequence[float], gammas: Sequence[float], t: float, gamma: float) -> list[float]:
    """Return the factors of snapshots whose sum comes closest to an average; the factors sum to 1.

    Args:
        times: steps before each snapshot.
        gammas: exponent of each snapshot's average.
        t: steps of the average that is wanted.
        gamma: its exponent.

    Least squares in the profiles (Karras et al. 2024, algorithm 3).

    >>> there = snapshot_weights([10, 20], [7.0, 7.0], 20, 7.0)
    >>> [round(abs(factor), 6) for factor in there]
    [0.0, 1.0]
    """
    snapshots = list(zip(times, gammas, strict=True))
    products = np.array([[inner_product(*one, *other) for other in snapshots] for one in snapshots])
    wanted = np.array([inner_product(*one, t, gamma) for one in snapshots])
    # Each profile at length 1: early ones are much higher than late ones
    scale = np.sqrt(np.diagonal(products))
    solution = np.linalg.lstsq(products / np.outer(scale, scale), wanted / scale, rcond=None)[0]
    factors = solution / scale
    return [float(factor) for factor in factors / factors.sum()]
