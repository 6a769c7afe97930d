"""Optimizers and learning rate schedules by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler

from snowmelt.errors import InputError

__all__ = ["OPTIMIZERS", "SCHEDULERS", "make_optimizer", "make_scheduler"]

Parameters = Iterable[Parameter]
Betas = tuple[float, float]


def _adam(parameters: Parameters, rate: float, betas: Betas, decay: float) -> Optimizer:
    return Adam(parameters, rate, betas, weight_decay=decay)


def _adamw(parameters: Parameters, rate: float, betas: Betas, decay: float) -> Optimizer:
    return AdamW(parameters, rate, betas, weight_decay=decay)


def _sgd(parameters: Parameters, rate: float, betas: Betas, decay: float) -> Optimizer:
    return SGD(parameters, rate, momentum=betas[0], weight_decay=decay)


def _constant(optimizer: Optimizer, epochs: int, end: float) -> None:
    return None


def _cosine(optimizer: Optimizer, epochs: int, end: float) -> LRScheduler:
    # Loshchilov & Hutter 2017 (SGDR), eq. 5, without restarts
    return CosineAnnealingLR(optimizer, T_max=epochs, eta_min=end)


def _linear(optimizer: Optimizer, epochs: int, end: float) -> LRScheduler:
    return LinearLR(optimizer, 1.0, end_factor=end / optimizer.param_groups[0]["lr"], total_iters=epochs)


def _inverse_sqrt(optimizer: Optimizer, epochs: int, end: float) -> LRScheduler:
    # start / sqrt(1 + n / tau) (Zhai et al. 2022, section 3.5), with the tau that gives `end` after `epochs`
    start = optimizer.param_groups[0]["lr"]
    if not 0 < end < start:
        raise InputError(
            f"a learning rate that falls by inverse_sqrt never reaches 0: eta_min must lie between 0 and the "
            f"learning rate, {start:g}, got {end:g}"
        )
    tau = epochs / ((start / end) ** 2 - 1)
    return LambdaLR(optimizer, lambda n: (1 + n / tau) ** -0.5)


OPTIMIZERS: dict[str, Callable[[Parameters, float, Betas, float], Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
}
SCHEDULERS: dict[str, Callable[[Optimizer, int, float], LRScheduler | None]] = {
    "none": _constant,
    "constant": _constant,
    "cosine": _cosine,
    "linear": _linear,
    "inverse_sqrt": _inverse_sqrt,
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


def make_scheduler(name: str, optimizer: Optimizer, epochs: int, end: float = 0.0) -> LRScheduler | None:
    """Return a learning rate schedule, which is stepped once an epoch; None for a constant rate.

    Args:
        name: a key of `SCHEDULERS`.
        optimizer: its learning rate is where the schedule begins.
        epochs: how many it takes to reach the end.
        end: the last learning rate, >= 0; ``inverse_sqrt`` goes on falling afterwards, and needs > 0.

    >>> optimizer = make_optimizer("sgd", [Parameter()], 0.1)
    >>> scheduler = make_scheduler("inverse_sqrt", optimizer, epochs=3, end=0.05)
    >>> [round(scheduler.lr_lambdas[0](n), 3) for n in (0, 1, 3)]
    [1.0, 0.707, 0.5]
    """
    return SCHEDULERS[name](optimizer, epochs, end)
