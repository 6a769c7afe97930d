"""How far a metric would move if the images were drawn again.

Two methods serve all metrics. Neither draws anything at random.

- The infinitesimal jackknife (Efron, "The jackknife, the bootstrap and other resampling plans", 1982). If a
  metric is a smooth function of averages over images, its first-order change per image, the influence, is
  known in closed form. The variance of the mean influence is the variance of the metric.
- The delete-group jackknife. Where the metric is not smooth (nearest neighbours), it is computed again
  without each tenth of the images.

Intervals hold 95 % and describe the metric *at this number of images*. The number itself moves a metric too
(FID falls as it grows). That is a bias, and no resampling of the same images shows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import torch
from torch import Tensor

from snowmelt.text import number

__all__ = [
    "FEW_IMAGES",
    "GROUPS",
    "LEVEL",
    "Estimate",
    "estimate",
    "group_order",
    "influence_std",
    "jackknife_std",
    "normal_interval",
    "proportion_interval",
]

LEVEL = 0.95  # of every interval
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
FEW_IMAGES = 2048
GROUPS = 10
SEED = 2020


@dataclass(frozen=True, slots=True)
class Estimate:
    """One measured number, with its 95 % interval.

    Attributes:
        value: the number.
        low, high: its 95 % interval.
        std: its standard error: the standard deviation if the images were drawn again.
        n_generated: the number of generated images that it was computed from.
        n_real: the number of real ones; None if the metric uses none, or a file does not say.
        note: what a reader must know before comparing it; may be empty.

    >>> print(Estimate(0.12346, 0.1, 0.15, 0.01, 10, 10))
    0.123 (0.100, 0.150)
    """

    value: float
    low: float
    high: float
    std: float
    n_generated: int
    n_real: int | None
    note: str = ""

    def __str__(self) -> str:
        """Return the value with its interval in brackets, to two digits of half the interval."""
        places = self._places(default=3)
        return f"{self.value:.{places}f} ({self.low:.{places}f}, {self.high:.{places}f})"

    def short(self) -> str:
        """Return the value and half of the interval's width.

        >>> Estimate(1.23456, 1.0, 1.5, 0.1, 10, 10).short()
        '1.23+-0.25'
        """
        half, places = (self.high - self.low) / 2, self._places(default=-1)
        return number(self.value) if places < 0 else f"{self.value:.{places}f}+-{half:.{places}f}"

    def rounded(self) -> str:
        """Return the value alone, to two digits of half the interval.

        >>> Estimate(1.23456, 1.0, 1.5, 0.1, 10, 10).rounded()
        '1.23'
        """
        return f"{self.value:.{self._places(default=3)}f}"

    def percent(self) -> Estimate:
        """Return a share in percent.

        >>> print(Estimate(0.12346, 0.1, 0.15, 0.01, 10, 10).percent())
        12.3 (10.0, 15.0)
        """
        value, low, high, std = (100 * each for each in (self.value, self.low, self.high, self.std))
        return replace(self, value=value, low=low, high=high, std=std)

    def _places(self, default: int) -> int:
        """Return the decimal places that show two digits of half the interval."""
        half = (self.high - self.low) / 2
        if not (math.isfinite(half) and half > 0):
            return default
        return min(8, max(0, 1 - math.floor(math.log10(half))))


def estimate(
    value: float,
    std: float,
    n_generated: int,
    n_real: int | None,
    *,
    interval: tuple[float, float] | None = None,
    note: str = "",
    biased: bool = True,
) -> Estimate:
    """Return an estimate with its interval. If few images move its value, its note warns.

    >>> estimate(2.0, 0.5, 5000, 5000)
    Estimate(value=2.0, low=1.02..., high=2.97..., std=0.5, n_generated=5000, n_real=5000, note='')
    >>> estimate(2.0, 0.5, 100, 5000).note
    'only 100 generated images: compare only with results from as many images'
    """
    low, high = interval if interval is not None else normal_interval(value, std)
    counts = {"generated": n_generated, "real": n_real if n_real is not None else FEW_IMAGES}
    few = [f"{count:,} {kind}" for kind, count in counts.items() if count < FEW_IMAGES]
    notes = [note] if note else []
    if few and biased:
        notes.append(f"only {' and '.join(few)} images: compare only with results from as many images")
    return Estimate(value, low, high, std, n_generated, n_real, "; ".join(notes))


def normal_interval(value: float, std: float) -> tuple[float, float]:
    """Return the 95 % interval of a normal distribution.

    >>> normal_interval(0.0, 1.0)
    (-1.959..., 1.959...)
    """
    return value - Z * std, value + Z * std


def proportion_interval(share: float, std: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share in [0, 1], by Wilson's formula (1927).

    Unlike the normal interval it stays inside [0, 1], and it has a width even if all of `count` agree.

    Args:
        share: the estimate.
        std: its standard error from all sources. It decides the effective number of images.
        count: the number of images, used where `std` is 0.

    >>> proportion_interval(1.0, 0.0, 100)
    (0.963..., 1.0)
    """
    effective = share * (1 - share) / std**2 if std > 0 and 0 < share < 1 else count
    effective = max(effective, 1e-12)
    middle = (share + Z**2 / (2 * effective)) / (1 + Z**2 / effective)
    half = (
        Z * math.sqrt(share * (1 - share) / effective + (Z / (2 * effective)) ** 2) / (1 + Z**2 / effective)
    )
    return max(0.0, middle - half), min(1.0, middle + half)


def influence_std(*influences: Tensor) -> float:
    """Return the standard error of a metric from each image's influence on it.

    Args:
        influences: (N,) for each set of images: the derivative of the metric towards more of that image.

    >>> influence_std(torch.tensor([0.0, 2.0, 0.0, 2.0]))  # of a mean: the values themselves
    0.577...
    """
    variances = [float(each.double().var()) / len(each) for each in influences if len(each) > 1]
    return math.sqrt(sum(variances))


def jackknife_std(without_group: Tensor) -> float:
    """Return the standard error of a metric from its values without each of several equal groups.

    The variance is (G - 1) / G sum_g (m_g - mean m)^2.

    Args:
        without_group: (G,) the metric without group g; empty where there is nothing to leave out.

    >>> jackknife_std(torch.tensor([1.0, 1.0, 1.0]))
    0.0
    """
    groups, values = len(without_group), without_group.double()
    if groups == 0:
        return 0.0
    return math.sqrt((groups - 1) / groups * float((values - values.mean()).square().sum()))


def group_order(count: int) -> Tensor:
    """Return the fixed random order (count,) in which images are put into groups.

    Images often come class by class; a group must be a sample of all of them.
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(SEED))
