"""What can be read: a source is a fixed number of images of one shape, in memory or in files.

Training, evaluation and everything else that looks at images takes a source.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from hashlib import sha256
from typing import Self, final

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.images import CHANNELS, to_uint8
from snowmelt.text import counted, some

__all__ = ["ImageSource", "TensorSource"]


class ImageSource(ABC):
    """A fixed number of images of one shape, in a fixed order.

    Args:
        name: what messages and reports call it.
        count: how many images.
        labels: (count,) integers, or None.
        class_names: names of the classes 0, 1, ..., or None if they are not known.
        parts: the part that each image belongs to, such as ``train``, or None for no part; None as a whole
            where nothing is parted.

    Attributes:
        labels: (count,) int64 on the CPU, or None.
        place: where the images come from, in words that stay the same when the contents change.
        whole: the source that these are a part of; None where they are no part.

    Raises:
        ValueError: the labels are not integers, or not one an image.
    """

    def __init__(
        self,
        name: str,
        count: int,
        labels: Tensor | Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
        parts: Sequence[str | None] | None = None,
    ) -> None:
        self.name, self.place, self.count = name, name, count
        self.whole: ImageSource | None = None
        self.labels: Tensor | None = None
        self.class_names = list(class_names) if class_names is not None else None
        self.parts = list(parts) if parts is not None else None
        if labels is not None:
            given = torch.as_tensor(labels)
            if given.shape != (count,) or given.is_floating_point() or given.dtype == torch.bool:
                raise ValueError(
                    f"labels must be {counted(count, 'integer')}, got {given.dtype} {tuple(given.shape)}"
                )
            self.labels = given.to("cpu", torch.int64)

    def __len__(self) -> int:
        return self.count

    @abstractmethod
    def batches(self, batch_size: int, num_workers: int = 0) -> Iterator[Tensor]:
        """Yield all images in order, uint8 (B, C, H, W); the last batch may be smaller.

        Args:
            batch_size: images of a batch.
            num_workers: threads that decode ahead; with 0, this one does it.

        Raises:
            InputError: a file cannot be read, or its image differs in size from the first one.
        """

    @abstractmethod
    def take(self, indices: Sequence[int]) -> Tensor:
        """Return some of the images, uint8 (len(indices), C, H, W), in the order of `indices`.

        Raises:
            IndexError: there is no image of that index.
            InputError: as for `batches`.
        """

    @abstractmethod
    def _keep(self, indices: Sequence[int]) -> None:
        """Forget all images but those of some ascending indices."""

    @final
    def subset(self, indices: Sequence[int], name: str | None = None) -> Self:
        """Return a source of some of these images, whose indices ascend.

        Args:
            indices: of the images; at least one.
            name: of the new source; None for that of this one.
        """
        chosen = copy(self)
        chosen.name, chosen.count = name or self.name, len(indices)
        chosen.labels = self.labels[list(indices)] if self.labels is not None else None
        chosen.parts = [self.parts[index] for index in indices] if self.parts is not None else None
        chosen._keep(indices)
        return chosen

    @final
    def part(self, part: str) -> Self:
        """Return the images of a part, such as ``test``.

        Raises:
            InputError: nothing is parted, or there is no such part.
        """
        if not (known := self.part_names()):
            raise InputError(f"{self.name} is in one part: nothing says which of its images are {part!r}")
        if part not in known:
            raise InputError(f"{self.name} has the parts {some(known, 5)}, not {part!r}")
        assert self.parts is not None
        chosen = self.subset([i for i, own in enumerate(self.parts) if own == part], f"{self.name}:{part}")
        chosen.place, chosen.parts, chosen.whole = f"{self.place}:{part}", None, self
        return chosen

    @final
    def part_names(self) -> list[str]:
        """Return the names of the parts, in the order in which they come."""
        return [part for part in dict.fromkeys(self.parts or ()) if part is not None]

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """Return what `take` does, or float in [-1, 1] where the images are held so: nothing is rounded."""
        return self.take(indices)

    def originals(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Yield some of the images, whose indices ascend, in the size and the channels that they have."""
        yield from self.take(indices)

    def items(self) -> list[str]:
        """Return what each image is called within its source: its file, say. It moves with the data."""
        return [f"image {index}" for index in range(len(self))]

    def digests(self) -> list[str]:
        """Return the SHA-256 of what decides each image: of its file, or of its pixels."""
        return list(self.pixel_digests())

    @final
    def pixel_digests(self) -> Iterator[str]:
        """Yield the SHA-256 of the pixels of each image, however it is stored."""
        for batch in self.batches(256):
            yield from (sha256(image.contiguous().numpy().data).hexdigest() for image in batch)

    def stamp(self) -> object:
        """Return plain values that change when an image changes, and also when its file is merely moved.

        No image is read for it if that is possible.
        """
        return self.content_hash()

    def content_hash(self) -> str:
        """Return the SHA-256 of everything that decides the images: of their shape and pixels, here."""
        digest = sha256()
        for number, batch in enumerate(self.batches(256)):
            if number == 0:
                digest.update(f"()images torch.uint8 {(len(self), *batch.shape[1:])}".encode())
            digest.update(batch.contiguous().numpy().data)
        return digest.hexdigest()


class TensorSource(ImageSource):
    """Images in memory.

    Args:
        images: (N, C, H, W), uint8 or floating in [-1, 1], C = 1, 3 or 4.
        labels, class_names, name: as for `ImageSource`.

    Raises:
        ValueError: there are no images, or the shape of images or labels is wrong.

    >>> source = TensorSource(torch.zeros(5, 1, 8, 8), labels=[0, 0, 1, 1, 1])
    >>> [tuple(batch.shape) for batch in source.batches(2)]
    [(2, 1, 8, 8), (2, 1, 8, 8), (1, 1, 8, 8)]
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "images in memory",
    ) -> None:
        if images.ndim != 4 or images.shape[1] not in CHANNELS or len(images) == 0:
            raise ValueError(f"images must be (N, 1, 3 or 4, H, W) with N >= 1, got {tuple(images.shape)}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"images must be uint8, or floating in [-1, 1], got {images.dtype}")
        super().__init__(name, len(images), labels, class_names)
        self.images = (images if images.dtype == torch.uint8 else to_uint8(images)).detach().cpu()

    def batches(self, batch_size: int, num_workers: int = 0) -> Iterator[Tensor]:
        """Yield all images in order, uint8 (B, C, H, W)."""
        return iter(self.images.split(batch_size))

    def take(self, indices: Sequence[int]) -> Tensor:
        """Return some of the images, in the order of `indices`."""
        return self.images[list(indices)]

    def _keep(self, indices: Sequence[int]) -> None:
        self.images = self.images[list(indices)]
