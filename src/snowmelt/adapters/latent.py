"""Latent models: they denoise codes of images, and a decoder makes images of the finished codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from snowmelt.core import Level, NoiseSchedule
from snowmelt.denoisers import Denoiser

__all__ = ["LatentModel"]


class _Model(Denoiser, Protocol):
    @property
    def schedule(self) -> NoiseSchedule: ...
    @property
    def image_shape(self) -> tuple[int, int, int]: ...
    @property
    def num_classes(self) -> int | None: ...
    @property
    def null_class(self) -> int | None: ...


class LatentModel(nn.Module):
    """A model of latents, together with the function that turns latents into images.

    A sampler runs it on latents from beginning to end, and decodes once, when they are finished. Latents know
    no range, so the sampler must not clip them: give it ``threshold=None``.

    Args:
        model: of latents; its image_shape is the latents' (C, H, W).
        decode: latents (B, C, H, W) -> images (B, C', H', W') in [-1, 1]; if it is a module, its weights are
            moved and held in eval mode as the model's are.

    >>> from snowmelt import DiffusionSampler
    >>> from snowmelt.adapters import from_flow
    >>> latents = from_flow(lambda x, time, class_labels: 0 * x, (4, 2, 2))
    >>> pixels = nn.PixelShuffle(2)  # four channels of 2 x 2 become one of 4 x 4
    >>> DiffusionSampler(LatentModel(latents, pixels), steps=2, threshold=None).sample(3).shape
    torch.Size([3, 1, 4, 4])
    """

    def __init__(self, model: _Model, decode: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.decode = decode
        self.schedule = model.schedule
        self.image_shape = model.image_shape
        self.num_classes = model.num_classes
        self.null_class = model.null_class

    def forward(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        """Return E[x0 | x_t] of the latents."""
        return self.model(x_t, level, class_labels)
