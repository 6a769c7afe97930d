"""Time conventions: the number that a network is told about a level.

The same level has many names: a trained index, a time that runs from image to noise or back, with or without
a factor of 1000, a noise level. A network that is told the wrong one raises no error; its images are bad.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from snowmelt.core.level import Level

if TYPE_CHECKING:
    from snowmelt.core.schedule import NoiseSchedule

__all__ = ["TIMES", "Time", "check_positive", "find_time"]

Time = Callable[["NoiseSchedule", Level[Any]], Any]


# Functions with names, so that a model can be pickled and sent to another process


def _index(schedule: NoiseSchedule, level: Level[Any]) -> Any:
    if schedule.num_timesteps is None:
        raise ValueError(f"time 'index' counts trained indices, and {schedule!r} has none: take 1000t")
    return level.t * schedule.num_timesteps - 1


def _t(schedule: NoiseSchedule, level: Level[Any]) -> Any:
    return level.t


def _one_minus_t(schedule: NoiseSchedule, level: Level[Any]) -> Any:
    return 1 - level.t


def _thousand_t(schedule: NoiseSchedule, level: Level[Any]) -> Any:
    return 1000 * level.t


def _thousand_one_minus_t(schedule: NoiseSchedule, level: Level[Any]) -> Any:
    return 1000 * (1 - level.t)


def _sigma(schedule: NoiseSchedule, level: Level[Any]) -> Any:
    return (-level.lam).exp() if isinstance(level.lam, Tensor) else math.exp(-level.lam)


def _log_sigma(schedule: NoiseSchedule, level: Level[Any]) -> Any:
    return -level.lam / 4  # EDM's c_noise (Karras et al. 2022, table 1)


TIMES: dict[str, Time] = {
    "index": _index,  # 0 .. T - 1
    "t": _t,  # 0 at the image, 1 at the noise
    "1-t": _one_minus_t,
    "1000t": _thousand_t,
    "1000(1-t)": _thousand_one_minus_t,
    "sigma": _sigma,  # sigma / alpha
    "log(sigma)/4": _log_sigma,  # of sigma / alpha
}


def find_time(time: str | Time) -> Time:
    """Return a convention from its key in `TIMES`, or as it is.

    Raises:
        ValueError: the convention is unknown.

    >>> from snowmelt.core import RectifiedFlow
    >>> schedule = RectifiedFlow()
    >>> find_time("1000(1-t)")(schedule, schedule(0.25))
    750.0
    """
    if callable(time):
        return time
    if time not in TIMES:
        raise ValueError(f"time must be one of {', '.join(TIMES)}, or a function, got {time!r}")
    return TIMES[time]


def check_positive(time: Time, schedule: NoiseSchedule) -> None:
    """Refuse a convention for networks that read the logarithm of a time, as Fourier features do.

    Raises:
        ValueError: the time is 0 or less at an end of the schedule.

    >>> from snowmelt.core import RectifiedFlow
    >>> check_positive(find_time("1-t"), RectifiedFlow())
    Traceback (most recent call last):
    ValueError: time_embedding fourier reads log(time), and RectifiedFlow() tells the network ... positional
    """
    # The noisiest level is asked for even where its lam is infinite, the clean image never is
    told = [time(schedule, schedule(t)) for t in (1.0, schedule.t_min)]
    if not min(told) > 0:
        raise ValueError(
            f"time_embedding fourier reads log(time), and {schedule!r} tells the network times from "
            f"{min(told):g} to {max(told):g}: take time_embedding positional"
        )
