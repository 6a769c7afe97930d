"""Diffusers: its networks unconverted, and any plan as a scheduler of its pipelines.

Its folders are checkpoints (`snowmelt.models.diffusers`). The name below is loaded when it is first asked for
(PEP 562), for it needs diffusers itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snowmelt.adapters.diffusers.scheduler import SnowmeltScheduler

__all__ = ["SnowmeltScheduler"]


def __getattr__(name: str) -> Any:
    if name != "SnowmeltScheduler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from snowmelt.adapters.diffusers.scheduler import SnowmeltScheduler

    return SnowmeltScheduler
