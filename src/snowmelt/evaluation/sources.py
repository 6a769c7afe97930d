"""Images that a sampler makes when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from snowmelt.evaluation.hashing import tensors_hash
from snowmelt.formats import ImageSource
from snowmelt.images import to_uint8
from snowmelt.sampling import DiffusionSampler

__all__ = ["SampledSource"]


class SampledSource(ImageSource):
    """Images that a sampler makes when they are asked for; none is kept.

    Image i depends on seed i and label i alone, so each reading gives the same ones.

    Args:
        sampler: of a model that is a ``torch.nn.Module``.
        seeds: one an image.
        labels: (N,) classes; None for an unconditional model, or to sample a conditional one without.
        guidance_scale, use_ema: as in `DiffusionSampler.sample`.
        class_names: names of the classes 0, 1, ..., or None.
        name: what a person calls them.
    """

    def __init__(
        self,
        sampler: DiffusionSampler,
        seeds: Sequence[int],
        labels: Tensor | Sequence[int] | None = None,
        *,
        guidance_scale: float = 0.0,
        use_ema: bool = True,
        class_names: Sequence[str] | None = None,
        name: str = "sampled images",
    ) -> None:
        if not all(isinstance(model, nn.Module) for model in (sampler.model, *sampler.guidance.networks)):
            raise ValueError(
                "a SampledSource knows its images by the weights of the networks: a model here has none"
            )
        if not seeds:
            raise ValueError("seeds is empty: give one an image")
        super().__init__(name, len(seeds), labels, class_names)
        self.sampler, self.seeds = sampler, list(seeds)
        self.guidance_scale, self.use_ema = guidance_scale, use_ema

    def content_hash(self) -> str:
        """Return the SHA-256 of what the images depend on: weights, plan, guidance, labels and seeds."""
        sampler = self.sampler
        networks = [n for n in (sampler.model, *sampler.guidance.networks) if isinstance(n, nn.Module)]
        labels = self.labels.tolist() if self.labels is not None else None
        guidance = (sampler.guidance, self.guidance_scale)
        facts = (sampler.plan.to_json(), sampler.threshold, sampler.micro_batch, guidance, labels, self.seeds)
        averaged = sampler.ema.applied() if self.use_ema and sampler.ema is not None else nullcontext()
        with averaged:
            return tensors_hash(nn.ModuleList(networks).state_dict(), *facts)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Sample and yield all images in order, uint8 (B, C, H, W)."""
        return _rebatched(self._made(range(len(self)), batch_size), batch_size)

    def take(self, indices: Sequence[int]) -> Tensor:
        """Sample some of the images and no others, uint8 (len(indices), C, H, W)."""
        return torch.cat(list(self._made(indices, "auto")))

    def _made(self, indices: Sequence[int], batch_size: int | Literal["auto"]) -> Iterator[Tensor]:
        seeds = [self.seeds[index] for index in indices]
        labels = self.labels[list(indices)] if self.labels is not None else None
        made = self.sampler.stream(
            len(seeds), labels, self.guidance_scale, self.use_ema, seeds=seeds, batch_size=batch_size
        )
        return (to_uint8(batch).cpu() for batch in made)


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
