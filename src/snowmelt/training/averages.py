"""Where the averaged weights of a run come from: most optimizers leave them to an EMA, one has its own.

Schedule-free AdamW (Defazio et al. 2024, eq. 8 to 10) takes gradients at y, which the model holds while it
trains, and averages into x, which is what counts. With its base sequence z, y = (1 - beta) z + beta x. Here x
is the EMA's shadow. So the optimizer stays in its training mode, and whatever looks at averaged weights
(validation, samples, checkpoints) finds x; the model's own weights, y, are resumed to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from snowmelt.errors import InputError
from snowmelt.models import EMA
from snowmelt.training.layers import BEGIN
from snowmelt.training.rate_schedules import RATE_SCHEDULES

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["is_schedule_free", "prepare_optimizer", "update_average", "with_options"]

# What schedule-free optimizers count in their groups, beside the options
COUNTED = ("k", "weight_sum", "lr_max", "scheduled_lr", "train_mode")


def is_schedule_free(optimizer: Optimizer) -> bool:
    """Return whether an optimizer averages by itself, with a constant rate."""
    return any("train_mode" in group for group in optimizer.param_groups)


def prepare_optimizer(trainer: DiffusionTrainer) -> None:
    """Put an optimizer that has modes into that of training, and check what does not go together with it."""
    optimizer: Any = trainer.optimizer
    if not is_schedule_free(optimizer):
        return
    schedule = RATE_SCHEDULES[trainer.rate.schedule.name]
    wrong = {
        "an average of the weights (use_ema, training.ema.enabled: true), for that is its own": (
            trainer.ema is None
        ),
        "no snapshots of averages (training.ema.snapshots: 0)": trainer.snapshots is not None,
        "a constant learning rate (training.scheduler.type: constant)": (
            trainer.scheduler is not None or schedule is not RATE_SCHEDULES["constant"]
        ),
        "no layers that begin later (training.init.unfreeze)": any(
            BEGIN in group for group in optimizer.param_groups
        ),
        "betas above 0": any(group["betas"][0] <= 0 for group in optimizer.param_groups),
    }
    if needed := next((what for what, is_wrong in wrong.items() if is_wrong), None):
        raise InputError(f"a schedule-free optimizer needs {needed}")
    optimizer.train()


@torch.no_grad()
def update_average(ema: EMA, optimizer: Optimizer) -> None:
    """Take an optimizer step into the average; where the optimizer has one, the average is that."""
    if not is_schedule_free(optimizer):
        ema.update()
        return
    averages: dict[Tensor, Tensor] = {}
    for group in optimizer.param_groups:
        y = [parameter for parameter in group["params"] if "z" in optimizer.state[parameter]]
        if y:
            z = [optimizer.state[parameter]["z"] for parameter in y]
            # x = y + (1 - 1 / beta) (z - y), from y = (1 - beta) z + beta x
            x = torch._foreach_lerp(y, z, 1 - 1 / group["betas"][0])
            averages |= dict(zip(y, x, strict=True))
    ema.replace(averages)


def with_options(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what another optimizer has gathered, with the options of this one."""
    there, here = state["param_groups"], optimizer.state_dict()["param_groups"]
    if len(there) != len(here):
        return dict(state)  # torch says what does not fit
    options = [{key: value for key, value in group.items() if key not in COUNTED} for group in here]
    return {**state, "param_groups": [before | now for before, now in zip(there, options, strict=True)]}
