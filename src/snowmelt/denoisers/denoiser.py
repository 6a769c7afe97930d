"""A denoiser says what image to expect behind a noisy one: (x_t, level) -> E[x0 | x_t].

Everything that samples takes this one callable. A network with its schedule and parameterization is a
denoiser; guidance or clipping wrapped around a denoiser is one again.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from snowmelt.core import Level, NoiseSchedule, Parameterization

__all__ = ["Denoiser", "NetworkDenoiser"]


class Denoiser(Protocol):
    """What sampling needs of a model, and all it needs."""

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        """Return E[x0 | x_t], shaped and typed like `x_t`.

        Args:
            x_t: (B, C, H, W), the state at `level`.
            level: one noise level for the whole batch.
            class_labels: (B,) integers, or None for no condition.
        """


class NetworkDenoiser:
    """A network, the schedule it was trained on, and what its output means.

    The network is called as ``network(c_in * x_t, time, class_labels)`` with `time` a float32 tensor (B,)
    of what `schedule.network_time` says. It runs in its own dtype; the state keeps its own.

    Args:
        network: (x, time, class_labels) -> y, shaped like x.
        schedule: tells the network the time.
        parameterization: decodes y.

    >>> from snowmelt.core import PARAMETERIZATIONS, RectifiedFlow
    >>> velocity = lambda x, time, class_labels: 2 * x
    >>> denoiser = NetworkDenoiser(velocity, RectifiedFlow(), PARAMETERIZATIONS["flow"])
    >>> denoiser(torch.ones(1, 1, 1, 1), RectifiedFlow()(0.25)).item()  # x0 = x_t - t * velocity
    0.5
    """

    def __init__(
        self, network: nn.Module, schedule: NoiseSchedule, parameterization: Parameterization
    ) -> None:
        self.network = network
        self.schedule = schedule
        self.parameterization = parameterization

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        time = x_t.new_full((len(x_t),), self.schedule.network_time(level), dtype=torch.float32)
        x = self.parameterization.input_scale(level) * x_t
        y = self.network(x, time, class_labels).to(x_t.dtype)
        return self.parameterization.x0(x_t, y, level)
