"""A denoiser says what image to expect behind a noisy one: (x_t, level) -> E[x0 | x_t].

Everything that samples takes this one callable. A network with its schedule and parameterization is a
denoiser; guidance or clipping wrapped around a denoiser is one again.

A network may also say how much noise an ancestral step adds (Nichol & Dhariwal 2021, "Improved DDPM",
https://arxiv.org/abs/2102.09672). Then it has a method `answer`, which returns the image and the variance.
What is wrapped around it has one as well, and says there whose variance counts. `ask` takes any denoiser.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from snowmelt.core import Level

__all__ = ["Answer", "Answering", "Denoiser", "ask", "eval_mode"]


class Denoiser(Protocol):
    """What sampling needs of a model, and all it needs."""

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        """Return E[x0 | x_t], shaped and typed like `x_t`.

        Args:
            x_t: (B, C, H, W), the state at `level`.
            level: one noise level for the whole batch.
            class_labels: (B,) integers, or None for no condition.
        """


class Answer(NamedTuple):
    """All that a denoiser says of a noisy image.

    Attributes:
        x0: E[x0 | x_t], (B, C, H, W).
        variance: v of Nichol & Dhariwal 2021, shaped like `x0`: at -1 an ancestral step has the posterior's
            variance, at 1 beta, and between them their logarithms are interpolated. None says nothing.
    """

    x0: Tensor
    variance: Tensor | None = None


class Answering(ABC):
    """Abstract: a denoiser that passes on what others say of the variance."""

    @abstractmethod
    def answer(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Answer:
        """Return the image and the variance; arguments as for `Denoiser`."""

    def __call__(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        """Return the image alone."""
        return self.answer(x_t, level, class_labels).x0


def ask(
    denoiser: Denoiser, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /
) -> Answer:
    """Return all that a denoiser says; a plain function says nothing of the variance.

    >>> import torch
    >>> ask(lambda x_t, level, class_labels=None: 2 * x_t, torch.ones(1), Level(0.5, 0.6, 0.8))
    Answer(x0=tensor([2.]), variance=None)
    """
    if isinstance(denoiser, Answering):
        return denoiser.answer(x_t, level, class_labels)
    return Answer(denoiser(x_t, level, class_labels))


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
