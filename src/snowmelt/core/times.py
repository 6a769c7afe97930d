"""Time conventions: the number that a network is told about a level.

The same level goes by many names: a trained index, a time that runs from image to noise or back, with or
without a factor of 1000, a noise level. Telling a network the wrong one raises no error; it only ruins its
images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from snowmelt.core import VE, DiscreteSchedule, Level, NoiseSchedule

__all__ = ["TIMES", "Time", "find_time", "own_time"]

Time = Callable[[NoiseSchedule, Level[float]], float]


# Functions with names, so that a model can be pickled and sent to another process


def _index(schedule: NoiseSchedule, level: Level[float]) -> float:
    if not isinstance(schedule, DiscreteSchedule):
        raise ValueError(f"time 'index' counts trained indices, and {schedule!r} has none: take 1000t")
    return schedule.index_of_t(level.t)


def _t(schedule: NoiseSchedule, level: Level[float]) -> float:
    return level.t


def _one_minus_t(schedule: NoiseSchedule, level: Level[float]) -> float:
    return 1 - level.t


def _thousand_t(schedule: NoiseSchedule, level: Level[float]) -> float:
    return 1000 * level.t


def _thousand_one_minus_t(schedule: NoiseSchedule, level: Level[float]) -> float:
    return 1000 * (1 - level.t)


def _sigma(schedule: NoiseSchedule, level: Level[float]) -> float:
    return math.exp(-level.lam)


def _log_sigma(schedule: NoiseSchedule, level: Level[float]) -> float:
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


def own_time(schedule: NoiseSchedule) -> str:
    """Return the key of what `schedule.network_time` says, the convention of snowmelt's own networks.

    >>> from snowmelt.core import RectifiedFlow
    >>> own_time(VE()), own_time(RectifiedFlow())
    ('log(sigma)/4', '1000t')
    """
    if isinstance(schedule, DiscreteSchedule):
        return "index"
    return "log(sigma)/4" if isinstance(schedule, VE) else "1000t"


def find_time(time: str | Time | None, schedule: NoiseSchedule) -> Time:
    """Return a convention from its key in `TIMES`, or as it is; None is the schedule's own.

    Raises:
        ValueError: there is no such convention.
    """
    if callable(time):
        return time
    name = own_time(schedule) if time is None else time
    if name not in TIMES:
        raise ValueError(f"time must be one of {', '.join(TIMES)}, or a function, got {time!r}")
    return TIMES[name]
