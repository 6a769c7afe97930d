"""The loss on held-out images."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from snowmelt.training.draws import draw

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["validation_loss"]


@torch.no_grad()
def validation_loss(trainer: DiffusionTrainer) -> float | None:
    """Do what `DiffusionTrainer.validate_epoch` says; None without data."""
    loader = trainer.dataloader.val_loader()
    if loader is None:
        return None
    # For all images at once, so that it does not matter how many are in a batch
    draws = draw(trainer.model, trainer.objective["times"], trainer.dataloader.num_val_images, 0)
    done = 0
    one = torch.ones((), device=trainer.accelerator.device)
    total = torch.zeros(2, device=trainer.accelerator.device)  # of losses, of images
    trainer.model.eval()
    with trainer.ema.applied() if trainer.ema is not None else nullcontext():
        for x0, *labels in loader:
            own, done = draws.part(done, done + len(x0)), done + len(x0)
            loss = trainer.loss(trainer, x0, *labels, draws=own, learns=False)
            total += torch.stack([loss, one]) * len(x0)
    loss_sum, count = total.tolist()
    mean: float = loss_sum / count
    return mean
