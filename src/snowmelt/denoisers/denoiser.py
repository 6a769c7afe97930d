"""A denoiser says what image to expect behind a noisy one: (x_t, level) -> E[x0 | x_t].

Everything that samples takes this one callable. A network with its schedule and parameterization is a
denoiser; guidance or clipping wrapped around a denoiser is one again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn

from snowmelt.core import Level

__all__ = ["Denoiser", "eval_mode"]


class Denoiser(Protocol):
    """What sampling needs of a model, and all it needs."""

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        """Return E[x0 | x_t], shaped and typed like `x_t`.

        Args:
            x_t: (B, C, H, W), the state at `level`.
            level: one noise level for the whole batch.
            class_labels: (B,) integers, or None for no condition.
        """


@contextmanager
def eval_mode(model: object) -> Iterator[None]:
    """Hold every part of `model` in eval mode, then give each back the mode that it had.

    >>> model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with eval_mode(model):
    ...     [part.training for part in model]
    [False, False]
    >>> [part.training for part in model]
    [True, False]
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
