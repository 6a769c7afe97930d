"""How far a figure would move if the images were drawn again.

Two tools serve all metrics, both without drawing anything at random:

- the infinitesimal jackknife (Efron, "The jackknife, the bootstrap and other resampling plans", 1982): where
  a metric is a smooth function of averages over images, its first-order change per image, the influence, is
  known in closed form, and the variance of their mean is the metric's;
- the delete-group jackknife: where it is not (nearest neighbours), the metric is computed again without each
  tenth of the images.

Intervals hold 95 % and speak of the metric *at this number of images*. What the number itself does to the
metric (FID falls as it grows) is a bias, which no resampling of the same images shows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "FEW_IMAGES",
    "GROUPS",
    "Figure",
    "figure",
    "group_order",
    "influence_std",
    "jackknife_std",
    "normal_interval",
    "proportion_interval",
]

Z = 1.959963984540054  # standard normal: 95 % lie within
FEW_IMAGES = 2048
GROUPS = 10
SEED = 2020


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, with how sure it is.

    Attributes:
        value: the metric.
        low, high: its 95 % interval.
        std: its standard error, that is, its standard deviation if the images were drawn again.
        n_generated: generated images that it was computed from.
        n_real: real ones; None for a metric without, or where a file of statistics does not say.
        note: what a reader must know before comparing it; may be empty.
    """

    value: float
    low: float
    high: float
    std: float
    n_generated: int
    n_real: int | None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON knows; what is not finite becomes None."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


def figure(
    value: float,
    std: float,
    n_generated: int,
    n_real: int | None,
    *,
    interval: tuple[float, float] | None = None,
    note: str = "",
) -> Figure:
    """Return a figure with its interval, and the warning that belongs to few images.

    >>> figure(2.0, 0.5, 5000, 5000)
    Figure(value=2.0, low=1.02..., high=2.97..., std=0.5, n_generated=5000, n_real=5000, note='')
    >>> figure(2.0, 0.5, 100, 5000).note
    'only 100 generated images: below 2,048, compare with figures of as many images only'
    """
    low, high = interval if interval is not None else normal_interval(value, std)
    counts = {"generated": n_generated, "real": n_real if n_real is not None else FEW_IMAGES}
    few = [f"{count:,} {kind}" for kind, count in counts.items() if count < FEW_IMAGES]
    notes = [note] if note else []
    if few:
        notes.append(
            f"only {' and '.join(few)} images: below {FEW_IMAGES:,}, compare with figures of as many "
            "images only"
        )
    return Figure(value, low, high, std, n_generated, n_real, "; ".join(notes))


def normal_interval(value: float, std: float) -> tuple[float, float]:
    """Return the 95 % interval of a normal distribution.

    >>> normal_interval(0.0, 1.0)
    (-1.959..., 1.959...)
    """
    return value - Z * std, value + Z * std


def proportion_interval(share: float, std: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share in [0, 1], by Wilson's formula (1927).

    Unlike the normal interval it stays inside [0, 1] and has a width where all of `count` agree.

    Args:
        share: the estimate.
        std: its standard error, from whatever sources; it stands for a smaller count than was drawn.
        count: images, which alone decide where `std` is 0.

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
        influences: (N,) a set of images: the derivative of the metric towards more of that image.

    >>> influence_std(torch.tensor([0.0, 2.0, 0.0, 2.0]))  # of a mean: the values themselves
    0.577...
    """
    variances = [float(each.double().var()) / len(each) for each in influences if len(each) > 1]
    return math.sqrt(sum(variances))


def jackknife_std(without_group: Tensor) -> float:
    """Return the standard error of a metric from its values without each of several equal groups.

    The variance is (G - 1) / G sum_g (m_g - mean m)^2.

    Args:
        without_group: (G,) the metric without group g.

    >>> jackknife_std(torch.tensor([1.0, 1.0, 1.0]))
    0.0
    """
    groups, values = len(without_group), without_group.double()
    return math.sqrt((groups - 1) / groups * float((values - values.mean()).square().sum()))


def group_order(count: int) -> Tensor:
    """Return the fixed random order (count,) in which images are put into groups.

    Images often come class by class; a group must be a sample of all of them.
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(SEED))
