"""Other people's networks, as models that every sampler takes.

Each adapter is a thin wrapper and loads nothing of the library that it speaks to. The names below are loaded
when they are first asked for (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snowmelt.adapters.adm import from_adm, read_adm
    from snowmelt.adapters.diffusers.networks import decoder, from_dit, from_unet2d, from_unet2d_condition
    from snowmelt.adapters.edm import from_edm
    from snowmelt.adapters.flow import from_flow
    from snowmelt.adapters.k_diffusion import from_k_diffusion

_HOMES = {
    "decoder": "snowmelt.adapters.diffusers.networks",
    "from_adm": "snowmelt.adapters.adm",
    "from_dit": "snowmelt.adapters.diffusers.networks",
    "from_edm": "snowmelt.adapters.edm",
    "from_flow": "snowmelt.adapters.flow",
    "from_k_diffusion": "snowmelt.adapters.k_diffusion",
    "from_unet2d": "snowmelt.adapters.diffusers.networks",
    "from_unet2d_condition": "snowmelt.adapters.diffusers.networks",
    "read_adm": "snowmelt.adapters.adm",
}

__all__ = [
    "decoder",
    "from_adm",
    "from_dit",
    "from_edm",
    "from_flow",
    "from_k_diffusion",
    "from_unet2d",
    "from_unet2d_condition",
    "read_adm",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'snowmelt.adapters' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
