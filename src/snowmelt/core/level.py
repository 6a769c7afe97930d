"""One noise level.

Everything in snowmelt stands on one line: a noisy image is

    x_t = alpha_t * x0 + sigma_t * eps,    eps ~ N(0, I),

and a `Level` is one point of it. Sampling uses Python floats, computed in float64; training uses
tensors that broadcast against a batch of images.
"""

from __future__ import annotations

import math
from typing import Generic, NamedTuple, TypeVar

from torch import Tensor

__all__ = ["Level", "Number"]

Number = TypeVar("Number", float, Tensor)


class Level(NamedTuple, Generic[Number]):
    """A time and its two coefficients.

    Attributes:
        t: time in [0, 1]; 0 is clean, 1 is noise.
        alpha: what is left of the image, >= 0.
        sigma: standard deviation of the noise, >= 0.

    >>> level = Level(t=0.5, alpha=0.8, sigma=0.6)
    >>> round(level.lam, 4)
    0.2877
    >>> Level(t=1.0, alpha=0.0, sigma=1.0).lam
    -inf
    """

    t: Number
    alpha: Number
    sigma: Number

    @property
    def lam(self) -> Number:
        """Half the log signal-to-noise ratio, log(alpha / sigma): -inf at pure noise, inf at the image."""
        if isinstance(self.alpha, Tensor):
            return self.alpha.log() - self.sigma.log()
        if self.alpha == 0:
            return -math.inf
        if self.sigma == 0:
            return math.inf
        return math.log(self.alpha) - math.log(self.sigma)
