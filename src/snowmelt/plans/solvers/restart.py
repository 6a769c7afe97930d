"""Restart sampling (Xu et al. 2023, https://arxiv.org/abs/2306.14878): up and down again.

A deterministic solver runs down the grid. At the lower end of an interval fresh noise brings the state back
to the upper end, and the solver runs down once more, a few times over. The noise contracts the errors made so
far, while each descent is as accurate as an ODE solver is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from snowmelt.core import NoiseSchedule
from snowmelt.plans.joining import join
from snowmelt.plans.plan import Plan
from snowmelt.plans.solvers.ddim import ddim

__all__ = ["restart"]


def restart(
    schedule: NoiseSchedule,
    times: Sequence[float],
    *,
    inner: Callable[..., Plan] = ddim,
    inner_options: Mapping[str, Any] | None = None,
    interval: Sequence[float] = (0.1, 0.5),
    repeats: int = 1,
) -> Plan:
    """Return the plan that runs the solver `inner` down `times` and repeats the part inside `interval`.

    Args:
        schedule: any.
        times: strictly falling, from the first evaluation to the result.
        inner: a solver; `make_plan` and `Method` take its name in `SOLVERS`.
        inner_options: its options.
        interval: (low, high), each moved to the nearest time of the grid at which there is noise.
        repeats: how often the interval is passed again, >= 0.

    >>> from snowmelt.core import LinearVP
    >>> restart(LinearVP(), [1.0, 0.8, 0.6, 0.4, 0.2, 0.0], interval=(0.2, 0.6), repeats=2)
    <Plan restart: 9 evaluations, t = 1 -> 0, stochastic, on x0>
    """
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 0:
        raise ValueError(f"repeats must be an integer >= 0, got {repeats!r}")
    if len(interval) != 2 or not 0 <= interval[0] < interval[1] <= 1:
        raise ValueError(f"interval must be two times 0 <= low < high <= 1, got {tuple(interval)}")
    solve = partial(inner, schedule, **(inner_options or {}))
    noisy = [i for i, t in enumerate(times) if schedule(t).sigma > 0]
    low, high = (min(noisy, key=lambda i: abs(times[i] - end)) for end in interval)
    if low == high or not repeats:  # too coarse a grid to have anything inside
        return replace(solve(times), name="restart")

    down = solve(times[: low + 1])
    again = solve(times[high : low + 1])
    parts = [down, *[again] * repeats]
    if low < len(times) - 1:
        parts.append(solve(times[low:]))
    joined = join(parts)
    # Each descent starts anew: a multistep method does so in first order, which costs its step squared
    return replace(joined, order=min(joined.order, 2), name="restart")
