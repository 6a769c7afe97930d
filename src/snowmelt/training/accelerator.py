"""The device, the precision and the processes of a training run, as Hugging Face's Accelerate has them."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["is_first_process", "make_accelerator"]


def is_first_process() -> bool:
    """Return whether this process speaks and writes for all that torchrun or accelerate have started."""
    return os.environ.get("RANK", "0") == "0"


def make_accelerator(device: str | torch.device, use_amp: bool) -> Accelerator:
    """Return the accelerator of a run.

    Args:
        device: ``"cpu"``, ``"cuda"``, ...; with several processes, Accelerate gives each its own.
        use_amp: mixed precision where it is faster, on CUDA; a warning says where it is left out.

    Raises:
        ValueError: the device is not there, or Accelerate chose another one.
    """
    from accelerate import Accelerator

    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {str(device)!r} was asked for, but no CUDA device is there: use 'cpu'")
    if use_amp and device.type != "cuda":
        warnings.warn(
            f"use_amp is left out on {device.type}: mixed precision is slower than float32 there",
            stacklevel=3,
        )
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=_precision(device, use_amp))
    if device.index is not None and device != accelerator.device:
        raise ValueError(
            f"device {str(device)!r} was asked for, but Accelerate gives this process {accelerator.device}: "
            f"set CUDA_VISIBLE_DEVICES={device.index} and use device='cuda'"
        )
    return accelerator


def _precision(device: torch.device, use_amp: bool) -> str:
    if not use_amp or device.type != "cuda":
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
