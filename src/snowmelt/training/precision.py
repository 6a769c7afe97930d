"""The precision of a training run: asked for, kept in its checkpoint, or tried once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snowmelt.denoisers import eval_mode
from snowmelt.precision import AUTO, Choice, candidate, choose
from snowmelt.training.processes import from_first

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["settle_precision"]


def settle_precision(trainer: DiffusionTrainer) -> Choice:
    """Decide once in which precision a trainer's network runs, and return that.

    What is asked for comes first. With ``auto``, the choice of the checkpoint stays, so that a run goes on
    with the same bits; one that this device would not make is made anew. All processes take the first one's.
    """
    done, device = trainer.progress, trainer.accelerator.device
    if trainer.precision != AUTO:
        done.precision = trainer.precision
    if trainer.precision != AUTO or done.precision in ("fp32", candidate(device)):
        return Choice(done.precision)
    if trainer.is_divided and done.precision:  # trying takes other steps in each process
        return Choice("fp32")
    images = trainer.dataloader.batch_size
    with eval_mode(trainer.model):
        choice = choose(AUTO, trainer.model, device, images, backward=True)
    done.precision, reason = from_first(trainer.accelerator, tuple(choice))
    return Choice(done.precision, reason)
