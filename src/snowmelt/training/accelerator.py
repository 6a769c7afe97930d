"""The device, the precision and the processes of a training run, as Hugging Face's Accelerate has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from snowmelt.errors import InputError
from snowmelt.precision import AUTO, candidate, check_precision

if TYPE_CHECKING:
    from accelerate import Accelerator

    from snowmelt.training.trainer import DiffusionTrainer

# What tells Accelerate to divide the weights among processes, in ways that are not built here
OTHERS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
FSDP = "ACCELERATE_USE_FSDP"

__all__ = ["clip_gradients", "fsdp_asked_for", "is_first_process", "make_accelerator"]


def is_first_process() -> bool:
    """Return whether this process speaks and writes for all that torchrun or accelerate have started."""
    return os.environ.get("RANK", "0") == "0"


def make_accelerator(device: str | torch.device, precision: str = "fp32") -> Accelerator:
    """Return the accelerator of a run.

    Args:
        device: ``"cpu"``, ``"cuda"``, ...; with several processes, Accelerate gives each its own.
        precision: as asked for. Where it may be fp16, the loss is scaled, or small gradients would be zero.
            Accelerate's own mixed precision is not used: it would put the network itself into it, and samples
            drawn while training would have other bits than those drawn afterwards.

    Raises:
        ValueError: the device is not there, or Accelerate chose another one.
        InputError: Accelerate is told to divide the weights among the processes otherwise than by FSDP.
    """
    from accelerate import Accelerator

    if asked := [name for key, name in OTHERS.items() if _is_set(key)]:
        raise InputError(
            f"{asked[0]} is asked for, which snowmelt does not know: choose FSDP in accelerate config, or "
            "start with torchrun and set compute.sharding to fsdp"
        )
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {str(device)!r} was asked for, but no CUDA device is there: use 'cpu'")
    check_precision(precision, device)
    with _without(FSDP):  # Accelerate divides on GPUs alone, the trainer anywhere
        accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
    if precision == "fp16" or (precision == AUTO and candidate(device) == "fp16"):
        accelerator.scaler = torch.amp.GradScaler(device.type)
    if device.index is not None and device != accelerator.device:
        raise ValueError(
            f"device {str(device)!r} was asked for, but Accelerate gives this process {accelerator.device}: "
            f"set CUDA_VISIBLE_DEVICES={device.index} and use device='cuda'"
        )
    return accelerator


def fsdp_asked_for() -> bool:
    """Return whether ``accelerate launch --use_fsdp`` has started this process.

    Raises:
        InputError: together with what does not hold here.
    """
    if not _is_set(FSDP):
        return False
    if _is_set("FSDP_OFFLOAD_PARAMS"):
        raise InputError("FSDP with fsdp_offload_params is not built: set it to false in accelerate config")
    return True


def _is_set(key: str) -> bool:
    return os.environ.get(key, "").lower() in ("true", "1")


@contextmanager
def _without(key: str) -> Iterator[None]:
    """Take a variable out of the environment for a while."""
    value = os.environ.pop(key, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[key] = value


def clip_gradients(trainer: DiffusionTrainer, norm: float) -> None:
    """Clip the gradients of all parameters together; where the loss was scaled, at their own size."""
    if trainer.accelerator.scaler is not None:
        trainer.accelerator.scaler.unscale_(trainer.optimizer)
    trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), norm)
