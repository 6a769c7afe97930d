"""FSDP: each process holds a part of the weights, of their average and of the optimizer's state.

Zhao et al. 2023 (PyTorch FSDP), in torch's second version, `fully_shard`: a block of the network is whole
while it runs, forward and backward, and its gradient is divided as soon as it is there. The parameters stay
where they are in the network, under their names, so that average, clipping and optimizers work on parts as
they do on whole tensors. Checkpoints and samples take the whole: see `gathered` and `whole_sampler`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from snowmelt.errors import InputError
from snowmelt.models import EMA, DiffusionModel, load_weights
from snowmelt.sampling import DiffusionSampler
from snowmelt.training.accelerator import fsdp_asked_for
from snowmelt.training.precision import settle_precision
from snowmelt.training.uncertainty import Uncertainty

if TYPE_CHECKING:
    from accelerate import Accelerator

    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["SHARDINGS", "blocks", "divide", "divides", "shared", "whole_sampler"]

SHARDINGS = ("none", "fsdp")
ON_PROCESSORS = hasattr(torch.cpu.Stream, "record_event")  # which `fully_shard` calls, and torch 2.6 lacks


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts of a network that run one after the other: the members of its lists of modules.

    >>> network = nn.Sequential(nn.Linear(1, 1), nn.ModuleDict({"stages": nn.ModuleList([nn.Linear(1, 2)])}))
    >>> list(blocks(network))
    [Linear(in_features=1, out_features=2, bias=True)]
    """
    for child in network.children():
        if isinstance(network, nn.ModuleList) and not isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from blocks(child)


def divide(module: nn.Module, optimizer: Optimizer, device: torch.device) -> None:
    """Divide the parameters of a module among all processes, and give the optimizer their parts.

    Args:
        module: equal in all processes.
        optimizer: new; its groups have parameters of the module, in place of which they get the parts.
        device: of the module.

    Raises:
        InputError: the optimizer has taken steps.
    """
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if optimizer.state:
        raise InputError("FSDP divides the weights of a new optimizer, and this one has taken steps")
    before = list(module.parameters())
    mesh = init_device_mesh(device.type, (get_world_size(),))
    for block in (*blocks(module), module):
        if next(block.parameters(), None) is not None:
            # Also the outermost one, or it would be whole between two calls: the average reads it there
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
    parts = dict(zip(before, module.parameters(), strict=True))
    for group in optimizer.param_groups:
        group["params"] = [parts.get(parameter, parameter) for parameter in group["params"]]
        if isinstance(optimizer, SGD):
            group["fused"] = False  # torch has no such step for parts


def divides(accelerator: Accelerator, sharding: str) -> bool:
    """Return whether several processes are to hold a part of the weights each.

    Raises:
        InputError: there is no such way to divide them.
    """
    if sharding not in SHARDINGS:
        raise InputError(f"sharding must be one of {', '.join(SHARDINGS)}, got {sharding!r}")
    wanted = (sharding == "fsdp" or fsdp_asked_for()) and accelerator.num_processes > 1
    if wanted and accelerator.device.type == "cpu" and not ON_PROCESSORS:
        raise InputError(f"FSDP on processors needs a newer torch than {torch.__version__}")
    return wanted


class Shared(NamedTuple):
    """What the processes of a run share.

    Attributes:
        network: is called in training, by all of them together.
        optimizer: takes their steps.
        uncertainty: learned beside the network, or None.
        whole: a model to sample from, in the first process; None where the trainer's own is whole.
    """

    network: nn.Module
    optimizer: Any
    uncertainty: Any
    whole: DiffusionModel | None


def shared(trainer: DiffusionTrainer, uncertainty: Uncertainty | None) -> Shared:
    """Let the processes exchange what they learn: each has all weights (DDP), or each has a part (FSDP).

    Raises:
        InputError: the model has parameters beside those of its network, which FSDP would not divide.
    """
    accelerator, model, optimizer = trainer.accelerator, trainer.model, trainer.optimizer
    if uncertainty is not None:
        uncertainty.learned_by(optimizer)
    if not trainer.is_divided:
        learned = uncertainty and accelerator.prepare(uncertainty)
        network, prepared = accelerator.prepare(model.network, optimizer)
        return Shared(network, prepared, learned, None)
    network = model.get_submodule("network")  # whose class FSDP changes in place
    if len(list(model.parameters())) > len(list(network.parameters())):
        raise InputError("FSDP divides the network, and this model has a decoder with weights: leave it out")
    settle_precision(trainer)  # while each process can try it alone
    whole = deepcopy(model).cpu() if accelerator.is_main_process else None
    for module in (network, uncertainty):
        if module is not None:
            divide(module, optimizer, accelerator.device)
    return Shared(network, accelerator.prepare(optimizer), uncertainty, whole)


@contextmanager
def whole_sampler(trainer: DiffusionTrainer) -> Iterator[DiffusionSampler]:
    """Give the trainer's sampler, which a single process may use, to the first one.

    All processes must enter this. Where the weights are divided, the first process gets them whole for as
    long as it lasts; the others get a sampler that they must not use.
    """
    if not trainer.is_divided:
        yield trainer.sampler
        return
    checkpoint, sampler = trainer.checkpoint(), copy(trainer.sampler)
    if trainer.whole is not None:
        load_weights(trainer.whole, checkpoint.weights, source="this run")
        sampler.model = trainer.whole.to(trainer.accelerator.device)
        if checkpoint.ema is not None:
            sampler.ema = EMA(sampler.model)
            sampler.ema.load_state_dict(checkpoint.ema)
    try:
        yield sampler
    finally:
        if trainer.whole is not None:
            trainer.whole.cpu()
