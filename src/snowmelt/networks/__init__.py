"""Networks that denoise: (x_t, timesteps, class_labels) -> y, shaped like x_t."""

from __future__ import annotations

from snowmelt.networks.unet import UNet

__all__ = ["UNet"]
