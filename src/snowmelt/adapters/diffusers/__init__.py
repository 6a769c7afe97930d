"""Diffusers: its folders, which need json and safetensors only, its networks and its pipelines.

The names below are loaded when they are first asked for (PEP 562): diffusers itself only with those that
stand on it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snowmelt.adapters.diffusers.scheduler import SnowmeltScheduler
    from snowmelt.models.diffusers.folder import read_folder, write_folder

_HOMES = {
    "SnowmeltScheduler": "snowmelt.adapters.diffusers.scheduler",
    "read_folder": "snowmelt.models.diffusers.folder",
    "write_folder": "snowmelt.models.diffusers.folder",
}

__all__ = ["SnowmeltScheduler", "read_folder", "write_folder"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
