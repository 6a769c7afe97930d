"""Numbers that are not finite: they spoil whatever they are written into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snowmelt.models import CheckpointError
from snowmelt.models.weights import not_finite
from snowmelt.text import some

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["check_checkpoint", "check_trainer", "diverged"]


def diverged(what: str, epoch: int) -> FloatingPointError:
    """Return the error of a run that has diverged in `epoch`, counted from 1."""
    return FloatingPointError(
        f"{what} in epoch {epoch}: lower the learning rate or clip gradients "
        "(training.optimizer.learning_rate, gradient_clip_norm), and resume; the last checkpoint is as it "
        "was before this epoch"
    )


def check_trainer(trainer: DiffusionTrainer) -> None:
    """Raise FloatingPointError if the weights, their average or the optimizer's state are not finite."""
    optimizer = trainer.optimizer.state_dict()["state"]
    state = {"weights": dict(trainer.model.state_dict()), "optimizer": optimizer}
    if trainer.ema is not None:
        state["average"] = trainer.ema.shadow
    if names := list(not_finite(state)):
        raise diverged(f"{some(names)}: not finite", trainer.epoch + 1)


def check_checkpoint(state: Mapping[str, Any], source: object) -> None:
    """Raise CheckpointError if a tensor in nested dictionaries, which `source` holds, is not finite."""
    if names := list(not_finite(state)):
        raise CheckpointError(
            f"{source} holds numbers that are not finite ({some(names)}): its run had diverged. Take an "
            "earlier checkpoint and a lower learning rate"
        )
