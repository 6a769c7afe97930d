"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer

from snowmelt.errors import optional
from snowmelt.training.muon import Muon

__all__ = ["OPTIMIZERS", "make_optimizer"]

Parameters = list[Parameter]
Betas = tuple[float, float]


def _adam(parameters: Parameters, rate: float, betas: Betas, decay: float) -> Optimizer:
    return Adam(parameters, rate, betas, weight_decay=decay, fused=_fused(parameters))


def _adamw(parameters: Parameters, rate: float, betas: Betas, decay: float) -> Optimizer:
    return AdamW(parameters, rate, betas, weight_decay=decay, fused=_fused(parameters))


def _sgd(parameters: Parameters, rate: float, betas: Betas, decay: float) -> Optimizer:
    fused = _fused(parameters)
    return SGD(parameters, rate, momentum=betas[0], weight_decay=decay, fused=fused)


def _muon(parameters: Parameters, rate: float, betas: Betas, decay: float) -> Optimizer:
    # AdamW takes what has at most an image's 1 or 3 channels. On patches, first and last layer have more:
    # they are matrices like the others, and so is the table of classes, unlike in Jordan et al. 2024
    matrices = [p for p in parameters if p.ndim >= 2 and min(p.shape[:2]) > 3]
    inside = set(matrices)
    others = [p for p in parameters if p not in inside]
    return Muon(matrices, others, rate, betas, decay, fused=_fused(others))


def _schedule_free_adamw(parameters: Parameters, rate: float, betas: Betas, decay: float) -> Optimizer:
    # Defazio et al. 2024
    schedulefree = optional("schedulefree", "the optimizer schedule_free_adamw", "optimizers")
    made: Optimizer = schedulefree.AdamWScheduleFree(parameters, rate, betas, weight_decay=decay)
    return made


def _fused(parameters: Parameters) -> bool | None:
    """Return True where one kernel does a whole step, else None for what torch takes."""
    there = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    return True if there else None


OPTIMIZERS: dict[str, Callable[[Parameters, float, Betas, float], Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
    "muon": _muon,
    "schedule_free_adamw": _schedule_free_adamw,
}


def make_optimizer(
    name: str,
    parameters: Iterable[Parameter],
    learning_rate: float,
    betas: Betas = (0.9, 0.999),
    weight_decay: float = 0.0,
) -> Optimizer:
    """Return an optimizer, fused where torch has that.

    Args:
        name: a key of `OPTIMIZERS`.
        parameters: what it changes, on the device where they stay.
        learning_rate: > 0.
        betas: decay of the averages of gradient and squared gradient; for ``sgd``, the first one is the
            momentum; for ``muon``, they are those of AdamW, which takes what is no matrix.
        weight_decay: for ``adam`` and ``sgd`` it is added to the gradient, for the others it shrinks the
            weights directly (Loshchilov & Hutter 2019).

    Raises:
        InputError: the optimizer's library is missing.

    >>> make_optimizer("sgd", [Parameter()], 0.1, betas=(0.5, 0.0)).param_groups[0]["momentum"]
    0.5
    """
    return OPTIMIZERS[name](list(parameters), learning_rate, betas, weight_decay)
