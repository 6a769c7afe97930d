"""Images to evaluate that a sampler makes when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from snowmelt.digest import content_digest
from snowmelt.formats import ImageSource
from snowmelt.images import BACKGROUND, Shape, resize, to_uint8
from snowmelt.sampling import DiffusionSampler, Request

__all__ = ["SampledSource"]


class SampledSource(ImageSource):
    """Images that a sampler makes when they are read; none is kept.

    Image i depends on seed i and label i alone, so that every reading gives the same images. Images with
    alpha are laid on a background.

    Args:
        sampler: makes the images.
        request: which images to make.
        class_names: names of the classes 0, 1, ..., or None.
        name: of these images, for messages and reports.
        background: the colour behind transparent pixels.

    Raises:
        ValueError: the sampler cannot make such images.

    >>> from snowmelt import create_ddpm
    >>> sampler = DiffusionSampler(create_ddpm(8, 1, 8, (1,), norm_groups=4), solver="ddim", steps=2)
    >>> source = SampledSource(sampler, Request(seeds=(5, 6, 7)))
    >>> torch.equal(source.take([2]), torch.cat(list(source.batches(2)))[2:])
    True
    """

    def __init__(
        self,
        sampler: DiffusionSampler,
        request: Request,
        class_names: Sequence[str] | None = None,
        name: str = "sampled images",
        background: str = BACKGROUND,
    ) -> None:
        sampler.check(request)
        super().__init__(name, len(request), request.class_labels, class_names)
        self.sampler, self.request, self.background = sampler, request, background

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W) of the images of a model without a decoder; none is made for it."""
        channels, *size = self.sampler.model.image_shape
        return (min(channels, 3), *size)

    def content_hash(self) -> str:
        """Return the SHA-256 of what decides the images: `DiffusionSampler.identity`."""
        laid_on = (self.background,) if self.sampler.model.image_shape[0] == 4 else ()
        return content_digest(self.sampler.identity(self.request), *laid_on)

    def batches(self, batch_size: int, num_workers: int = 0) -> Iterator[Tensor]:
        """Sample and yield all images in order, uint8 (B, C, H, W)."""
        made = self.sampler.batches(self.request, batch_size=batch_size)
        return _rebatched(map(self._opaque, made), batch_size)

    def take(self, indices: Sequence[int]) -> Tensor:
        """Sample some of the images alone, uint8 (len(indices), C, H, W)."""
        return self._opaque(torch.cat(list(self.sampler.batches(self._requested(indices)))))

    def _opaque(self, made: Tensor) -> Tensor:
        pixels = to_uint8(made).cpu()
        channels, height, width = pixels.shape[1:]
        return resize(pixels, Shape((height, width), min(channels, 3), self.background))

    def _keep(self, indices: Sequence[int]) -> None:
        self.request = self._requested(indices)

    def _requested(self, indices: Sequence[int]) -> Request:
        labels = self.request.class_labels
        return replace(
            self.request,
            seeds=tuple(self.request.seeds[index] for index in indices),
            class_labels=tuple(labels[index] for index in indices) if labels is not None else None,
        )


def _rebatched(pieces: Iterator[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Yield batches of equal size: a sampler that has run out of memory makes smaller ones."""
    held: list[Tensor] = []
    for piece in pieces:
        held = [torch.cat([*held, piece])]
        while len(held[0]) >= batch_size:
            yield held[0][:batch_size]
            held = [held[0][batch_size:]]
    if held and len(held[0]):
        yield held[0]
