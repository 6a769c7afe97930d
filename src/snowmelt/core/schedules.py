"""The noise schedules by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from snowmelt.core.continuous import VE, CosineVP, LinearVP, RectifiedFlow
from snowmelt.core.discrete import BETA_SCHEDULES, DiscreteSchedule, make_betas
from snowmelt.core.schedule import NoiseSchedule

__all__ = ["SCHEDULES", "make_schedule"]


def _discrete(
    beta_schedule: str,
    *,
    num_timesteps: int = 1000,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    betas: Sequence[float] | None = None,
    zero_terminal_snr: bool = False,
) -> DiscreteSchedule:
    variances = (
        make_betas(beta_schedule, num_timesteps, beta_start, beta_end)
        if betas is None
        else torch.tensor(betas, dtype=torch.float64)
    )
    return DiscreteSchedule(variances, zero_terminal_snr)


SCHEDULES: dict[str, Callable[..., NoiseSchedule]] = {
    **{f"ddpm-{name}": partial(_discrete, name) for name in BETA_SCHEDULES},
    "vp": LinearVP,
    "cosine": CosineVP,
    "ve": VE,
    "edm": VE,  # EDM trains on the exploding line
    "flow": RectifiedFlow,
}


def make_schedule(name: str, **options: Any) -> NoiseSchedule:
    """Return a schedule by name.

    Args:
        name: a key of `SCHEDULES`.
        options: of the schedule: of ``ddpm-...`` num_timesteps, beta_start, beta_end, betas (the variances
            themselves, in place of the three) and zero_terminal_snr; of the others their class's arguments.

    Raises:
        ValueError: an unknown name or option, or a value out of range.

    >>> make_schedule("edm", sigma_max=20.0)(1.0)
    Level(t=1.0, alpha=1.0, sigma=20.0)
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {name!r}")
    try:
        return SCHEDULES[name](**options)
    except TypeError as error:
        raise ValueError(f"schedule {name!r} does not take these options: {error}") from error
