"""How the learning rate goes over a run: shares of the optimizer's own rate, by name.

Each is a function of `u`, how much of the run is done (0 at the beginning, 1 at the end), and of the `images`
seen since the beginning. `end` is the share at u = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from snowmelt.errors import InputError
from snowmelt.training.length import Length
from snowmelt.training.named import complete

__all__ = ["RATE_SCHEDULES", "RateSchedule"]


def constant(u: float, images: int, end: float) -> float:
    """Return 1.

    >>> constant(0.5, 1000, 0.0)
    1.0
    """
    return 1.0


def cosine(u: float, images: int, end: float) -> float:
    """Return half a cosine (Loshchilov & Hutter 2017, eq. 5, without restarts), constant from u = 1 on.

    >>> cosine(0.5, 1000, 0.0)
    0.5
    """
    return end + (1 - end) * (1 + math.cos(math.pi * min(u, 1.0))) / 2


def linear(u: float, images: int, end: float) -> float:
    """Return a straight line, constant from u = 1 on; to zero it is D2Z (Bergsma et al. 2025).

    >>> linear(0.75, 1000, 0.0)
    0.25
    """
    return 1 + (end - 1) * min(u, 1.0)


def inverse_sqrt(u: float, images: int, end: float, tau: float | None = None) -> float:
    """Return 1 / sqrt(1 + n / tau) after n images (Zhai et al. 2022, section 3.5).

    Without `tau`, it is the one that gives `end` at u = 1.

    >>> inverse_sqrt(0.5, 3000, 0.0, tau=1000)
    0.5
    """
    n_over_tau = images / tau if tau is not None else u * (end**-2 - 1)
    return 1 / math.sqrt(1 + n_over_tau)


def wsd(u: float, images: int, end: float, decay: float = 0.2) -> float:
    """Return 1, and a straight line over the last share `decay` (Hu et al. 2024, section 4: WSD).

    >>> wsd(0.5, 1000, 0.0), round(wsd(0.9, 1000, 0.0), 3)
    (1.0, 0.5)
    """
    return linear(max(0.0, 1 - (1 - u) / decay), images, end)


RATE_SCHEDULES: dict[str, Callable[..., float]] = {
    "none": constant,
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "inverse_sqrt": inverse_sqrt,
    "wsd": wsd,
}


@dataclass(frozen=True)
class RateSchedule:
    """A learning rate schedule by name.

    Args:
        name: a key of `RATE_SCHEDULES`.
        options: of its function: `decay` of ``wsd``, in (0, 1]; `tau` of ``inverse_sqrt``, in images.
        end: the share of the rate at the end, >= 0; ``inverse_sqrt`` needs > 0, or a `tau`.
        over: the length that it takes; None for that of the run.

    Raises:
        InputError: the name or an option is unknown, or a number is out of range.

    >>> RateSchedule("wsd", {"decay": 0.5}).share(0.75, 1000)
    0.5
    """

    name: str = "constant"
    options: Mapping[str, float] = field(default_factory=dict)
    end: float = 0.0
    over: Length | None = None

    def __post_init__(self) -> None:
        """Check the options, and complete them."""
        options = complete("learning rate schedule", self.name, RATE_SCHEDULES, self.options)
        object.__setattr__(self, "options", options)
        if options.get("decay", 1.0) > 1.0:
            raise InputError(f"decay is a share of the run, above 0 and up to 1, got {options['decay']:g}")
        if self.end < 0.0:
            raise InputError(f"a learning rate ends at a share of it, 0 or more, got {self.end:g}")
        if self.name == "inverse_sqrt" and not options["tau"] and not 0.0 < self.end < 1.0:
            raise InputError(
                "a learning rate that falls by inverse_sqrt never reaches 0: give tau in images, or an end "
                f"(eta_min) above 0 and below the learning rate; got the share {self.end:g} of it"
            )

    @classmethod
    def of(cls, given: str | RateSchedule) -> RateSchedule:
        """Return a schedule from its name, or as it is."""
        return cls(given) if isinstance(given, str) else given

    def share(self, u: float, images: int) -> float:
        """Return the share of the rate after the share u of the run, and so many images."""
        return RATE_SCHEDULES[self.name](u, images, self.end, **self.options)
