"""Networks that denoise: (x_t, timesteps, class_labels) -> y, shaped like x_t."""

from __future__ import annotations

from snowmelt.networks.dit import DiT
from snowmelt.networks.unet import UNet

__all__ = ["NETWORKS", "DiT", "UNet"]

NETWORKS: dict[str, type[UNet | DiT]] = {"unet": UNet, "dit": DiT}
