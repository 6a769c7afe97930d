"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer

__all__ = ["OPTIMIZERS", "make_optimizer"]

Parameters = Iterable[Parameter]
Betas = tuple[float, float]


def _adam(parameters: Parameters, rate: float, betas: Betas, decay: float) -> Optimizer:
    return Adam(parameters, rate, betas, weight_decay=decay)


def _adamw(parameters: Parameters, rate: float, betas: Betas, decay: float) -> Optimizer:
    return AdamW(parameters, rate, betas, weight_decay=decay)


def _sgd(parameters: Parameters, rate: float, betas: Betas, decay: float) -> Optimizer:
    return SGD(parameters, rate, momentum=betas[0], weight_decay=decay)


OPTIMIZERS: dict[str, Callable[[Parameters, float, Betas, float], Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
}


def make_optimizer(
    name: str,
    parameters: Parameters,
    learning_rate: float,
    betas: Betas = (0.9, 0.999),
    weight_decay: float = 0.0,
) -> Optimizer:
    """Return an optimizer.

    Args:
        name: a key of `OPTIMIZERS`.
        parameters: what it changes.
        learning_rate: > 0.
        betas: decay of the averages of gradient and squared gradient; for ``sgd``, the first one is the
            momentum.
        weight_decay: for ``adamw`` it shrinks the weights directly (Loshchilov & Hutter 2019), for the others
            it is added to the gradient.

    >>> make_optimizer("sgd", [Parameter()], 0.1, betas=(0.5, 0.0)).param_groups[0]["momentum"]
    0.5
    """
    return OPTIMIZERS[name](parameters, learning_rate, betas, weight_decay)
