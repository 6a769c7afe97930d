"""How much each noise level counts in the loss.

A weighting is a function of the half log signal-to-noise ratio lam = log(alpha / sigma), so that

    SNR = alpha^2 / sigma^2 = exp(2 lam).

All are stated as the weight w(lam) of the image's error, w(lam) |x0 - D(x_t)|^2, whatever the network
predicts. Where a paper weights the error of eps instead, SNR times its weight stands here, for

    |eps - eps_hat|^2 = SNR |x0 - D(x_t)|^2.

`Weighting` converts them, in one place. Levels that are drawn more often count more as well: what is learned
follows from w(lam) times the density of the training times. None of the weights is normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from snowmelt.core import Level, Parameterization
from snowmelt.training.named import complete

__all__ = [
    "WEIGHTINGS",
    "Weighting",
    "edm",
    "min_snr",
    "p2",
    "sigmoid",
    "truncated_snr",
    "uniform",
    "usual_weighting",
]


def uniform(lam: Tensor) -> None:
    """Count every error of what the network predicts alike: L_simple of DDPM (Ho et al. 2020, eq. 14).

    As a weight of the image's error it depends on the prediction, so it has no function of lam.

    >>> from snowmelt.core import PARAMETERIZATIONS
    >>> Weighting("uniform")(Level(t=0.5, alpha=0.8, sigma=0.6), PARAMETERIZATIONS["v"]) is None
    True
    """
    return


def min_snr(lam: Tensor, gamma: float = 5.0) -> Tensor:
    """Return min(SNR, gamma) (Hang et al. 2023, section 3.4): min(SNR, gamma) / SNR on the error of eps.

    >>> from torch import tensor
    >>> min_snr(tensor([0.0, 2.0]))  # SNR is 1 and 54.6
    tensor([1., 5.])
    """
    return (2 * lam).exp().clamp(max=gamma)


def truncated_snr(lam: Tensor, least: float = 1.0, most: float = 5.0) -> Tensor:
    """Return SNR between two bounds.

    The lower one is max(SNR, 1) of Salimans & Ho 2022 (arXiv 2202.00512), section 4: without it, a network
    that predicts images hardly learns them from much noise, where a sampler begins. The upper one is that of
    `min_snr`.

    >>> from torch import tensor
    >>> truncated_snr(tensor([-2.0, 0.5, 2.0]))  # SNR is 0.02, 2.7 and 54.6
    tensor([1.0000, 2.7183, 5.0000])
    """
    return (2 * lam).exp().clamp(least, most)


def p2(lam: Tensor, gamma: float = 1.0, k: float = 1.0) -> Tensor:
    """Return SNR / (k + SNR)^gamma (Choi et al. 2022, eq. 8): 1 / (k + SNR)^gamma on the error of eps.

    >>> from torch import tensor
    >>> p2(tensor(0.0))
    tensor(0.5000)
    """
    snr = (2 * lam).exp()
    return snr / (k + snr) ** gamma


def edm(lam: Tensor, sigma_data: float = 0.5) -> Tensor:
    """Return SNR + 1 / sigma_data^2 (Karras et al. 2022, table 1).

    That is their lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, with sigma / alpha for
    sigma. On the error of EDM's F with the same sigma_data it is 1 (their eq. 8).

    >>> from torch import tensor
    >>> edm(tensor(0.0), sigma_data=1.0)
    tensor(2.)
    """
    return (2 * lam).exp() + sigma_data**-2


def sigmoid(lam: Tensor, bias: float = 0.0) -> Tensor:
    """Return SNR / (1 + SNR exp(-bias)): the logistic function of bias - log SNR on the error of eps.

    Kingma and Gao 2023 and Hoogeboom et al. 2024 weight the integral over log SNR with it: that is the loss
    here if log SNR is uniform over the training times.

    >>> from torch import tensor
    >>> sigmoid(tensor(0.0))
    tensor(0.5000)
    """
    return (2 * lam).exp() * (bias - 2 * lam).sigmoid()


WEIGHTINGS: dict[str, Callable[..., Tensor | None]] = {
    "uniform": uniform,
    "min_snr": min_snr,
    "truncated_snr": truncated_snr,
    "p2": p2,
    "edm": edm,
    "sigmoid": sigmoid,
}


def usual_weighting(parameterization: Parameterization) -> str:
    """Return the weighting of a run that states none.

    Of a predicted image, all errors alike learn what it is first, and SNR how sharp it is: between the bounds
    it learns both (docs/training.md).

    >>> from snowmelt.core import PARAMETERIZATIONS
    >>> usual_weighting(PARAMETERIZATIONS["x0"]), usual_weighting(PARAMETERIZATIONS["v"])
    ('truncated_snr', 'uniform')
    """
    return "truncated_snr" if parameterization.name == "x0" else "uniform"


@dataclass(frozen=True)
class Weighting:
    """A weighting by name, as a weight of the error of whatever a network predicts.

    Args:
        name: a key of `WEIGHTINGS`.
        options: of its function, which fills in the others.

    Raises:
        InputError: the name or an option is unknown, or a number is out of range.

    >>> Weighting("min_snr")
    Weighting(name='min_snr', options={'gamma': 5.0})
    >>> from torch import tensor
    >>> from snowmelt.core import PARAMETERIZATIONS
    >>> level = Level(*tensor([[0.5], [0.8], [0.6]]))  # SNR is 16/9
    >>> Weighting("min_snr", {"gamma": 1.0})(level, PARAMETERIZATIONS["v"])  # min(SNR, 1) / (SNR + 1)
    tensor([0.3600])
    """

    name: str = "uniform"
    options: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the options, and complete them."""
        options = complete("weighting", self.name, WEIGHTINGS, self.options)
        object.__setattr__(self, "options", options)

    @classmethod
    def of(cls, given: str | Weighting) -> Weighting:
        """Return a weighting from its name, or as it is."""
        return cls(given) if isinstance(given, str) else given

    def __call__(self, level: Level[Any], parameterization: Parameterization) -> Tensor | None:
        """Return the weight of the error of y at each level; None where all count alike.

        x0 = (b x_t - sigma y) / (b alpha - a sigma), so that an error of y is one of x0 times
        -(b alpha - a sigma) / sigma, and w(lam) of x0 is w(lam) sigma^2 / (b alpha - a sigma)^2 of y.
        """
        weight = WEIGHTINGS[self.name](level.lam, **self.options)
        if weight is None:
            return None
        a, b = parameterization.pair(level)
        of_y: Tensor = weight * (level.sigma / (b * level.alpha - a * level.sigma)) ** 2
        return of_y
