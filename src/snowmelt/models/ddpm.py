"""The discrete model of DDPM, with the paper's own step."""

from __future__ import annotations

import torch
from torch import Tensor

from snowmelt.core import DiscreteSchedule
from snowmelt.denoisers import Clip, Denoiser
from snowmelt.denoisers.guidance import ClassifierFreeGuidance
from snowmelt.models.model import DiffusionModel
from snowmelt.plans import ddpm, integrate, make_preset

__all__ = ["DDPMModel"]


class DDPMModel(DiffusionModel):
    """A `DiffusionModel` on a discrete schedule, with DDPM's loop at hand.

    `snowmelt.DiffusionSampler` samples with any plan, EMA weights, per-image seeds and checks of its
    arguments; `denoise_step` and `sample` are algorithm 2 of the paper and nothing more.
    """

    schedule: DiscreteSchedule

    @torch.no_grad()
    def denoise_step(
        self,
        x_t: Tensor,
        index: int,
        class_labels: Tensor | None = None,
        guidance_scale: float = 0.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Return one ancestral step, from trained index `index` to the one below (DDPM algorithm 2).

        Args:
            x_t: (B, C, H, W), the state at `index`.
            index: in 0 .. T - 1; after index 0 comes the image.
            class_labels: (B,) integers or None.
            guidance_scale: of classifier-free guidance; 0 and 1 leave it out.
            noise: standard normal, shaped like `x_t`; drawn if None.
        """
        if not 0 <= index < self.schedule.num_timesteps:
            raise ValueError(f"index must lie in 0..{self.schedule.num_timesteps - 1}, got {index}")
        step = ddpm(self.schedule, [self.schedule.t_of_index(k) for k in (index, index - 1)])
        draw = None if noise is None else lambda: noise
        return integrate(step, self._clipped(guidance_scale), x_t, class_labels, draw)

    @torch.no_grad()
    def sample(
        self, num_samples: int, class_labels: Tensor | None = None, guidance_scale: float = 0.0
    ) -> Tensor:
        """Return samples (num_samples, C, H, W) in [-1, 1] by ancestral sampling at every trained index."""
        x_t = torch.randn(num_samples, *self.image_shape, device=self.device)
        return integrate(make_preset(self.schedule, "ddpm"), self._clipped(guidance_scale), x_t, class_labels)

    def _clipped(self, guidance_scale: float) -> Denoiser:
        if guidance_scale in (0.0, 1.0):
            return Clip(self)
        if self.null_class is None:
            raise ValueError(
                f"guidance_scale {guidance_scale} needs a model with classes and a null class; this has none"
            )
        return Clip(ClassifierFreeGuidance(self, guidance_scale, self.null_class))
