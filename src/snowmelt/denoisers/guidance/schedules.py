"""How much of the guidance acts at each level.

A schedule f is a factor on what guidance adds to the conditional prediction, so that the scale at a level is

    1 + (scale - 1) f(level),

and scale 1 is the conditional denoiser for every f. The named ones have mean 1 over t, and compare at equal
strength (Wang et al. 2024, "Analysis of Classifier-Free Guidance Weight Schedulers",
https://arxiv.org/abs/2404.13040).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from snowmelt.core import Level

__all__ = ["SCHEDULES", "Share", "constant", "cosine", "linear"]

Share = Callable[[Level[float]], float]


def constant(level: Level[float]) -> float:
    """Return 1: the same guidance at every level."""
    del level
    return 1.0


def linear(level: Level[float]) -> float:
    """Return 2 (1 - t): none at pure noise, twice as much at the image.

    >>> [linear(Level(t, 1 - t, t)) for t in (1.0, 0.5, 0.0)]
    [0.0, 1.0, 2.0]
    """
    return 2 * (1 - level.t)


def cosine(level: Level[float]) -> float:
    """Return 1 + cos(pi t): as `linear`, but level at both ends.

    >>> [cosine(Level(t, 1 - t, t)) for t in (1.0, 0.5, 0.0)]
    [0.0, 1.0, 2.0]
    """
    return 1 + math.cos(math.pi * level.t)


SCHEDULES: dict[str, Share] = {"constant": constant, "linear": linear, "cosine": cosine}
