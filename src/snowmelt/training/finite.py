"""Numbers that are not finite: they spoil whatever they are written into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snowmelt.models import CheckpointError
from snowmelt.models.weights import not_finite, some

__all__ = ["check_checkpoint", "check_training", "diverged"]


def diverged(what: str, epoch: int) -> FloatingPointError:
    """Return the error of a run that has diverged in `epoch`, counted from 1."""
    return FloatingPointError(
        f"{what} in epoch {epoch}: lower the learning rate or clip gradients "
        "(training.optimizer.learning_rate, gradient_clip_norm), and resume; the last checkpoint is as it "
        "was before this epoch"
    )


def check_training(state: Mapping[str, Any], epoch: int) -> None:
    """Raise FloatingPointError if a tensor in nested dictionaries is not finite."""
    if names := list(not_finite(state)):
        raise diverged(f"{some(names)}: not finite", epoch)


def check_checkpoint(state: Mapping[str, Any], source: object) -> None:
    """Raise CheckpointError if a tensor in nested dictionaries, which `source` holds, is not finite."""
    if names := list(not_finite(state)):
        raise CheckpointError(
            f"{source} holds numbers that are not finite ({some(names)}): its run had diverged. Take an "
            "earlier checkpoint and a lower learning rate"
        )
