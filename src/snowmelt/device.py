"""The device that a configuration asks for."""

from __future__ import annotations

import torch

from snowmelt.errors import InputError

__all__ = ["resolve_device", "synchronize"]


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device called `name`; ``auto`` is CUDA where there is one, else the CPU.

    Args:
        name: as in `compute.device`.
        local_rank: which of the machine's CUDA devices, where the name leaves it open.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}") from error
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= there.get(device.type, 1):
        raise InputError(f"device {name} was asked for, but this machine has none; use cpu or auto")
    return torch.device("cuda", local_rank) if name == "cuda" and local_rank else device


def synchronize(device: str | torch.device) -> None:
    """Wait until `device` has done what it was given, so that a clock tells the truth."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
