"""Running a network on pieces of one fixed size, so that its bits do not depend on the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from snowmelt.core import Level
from snowmelt.denoisers import Answer, Answering, Denoiser, ask
from snowmelt.precision import autocast

__all__ = ["MicroBatches", "default_micro_batch"]


LARGEST = 64
CPU_PIXELS = 2**14  # in a call: fewer do not pay for it, and a single image is not padded to more


def default_micro_batch(device: str | torch.device, image_shape: Sequence[int]) -> int:
    """Return how many images a call of the network takes: enough to keep the device busy, and no more.

    >>> [default_micro_batch("cpu", (3, side, side)) for side in (8, 32, 64, 256)]
    [64, 16, 4, 1]
    """
    if torch.device(device).type != "cpu":
        return LARGEST
    return min(LARGEST, max(1, CPU_PIXELS // math.prod(image_shape[1:])))


class MicroBatches(Answering):
    """A denoiser that is always called with exactly `size` images.

    Convolution and matrix kernels choose their blocking by the batch size, and another blocking rounds
    differently. At one fixed size, the last piece padded, an image's bits no longer depend on its company.
    Nor does the network's memory grow with the batch.

    Args:
        denoiser: any.
        size: images a call, >= 1.
        padded: False leaves the last piece as small as it is, which is quicker and rounds as it likes.
        precision: in which the denoiser runs; what it returns is typed like its input all the same.

    >>> seen = []
    >>> spy = lambda x_t, level, class_labels: seen.append(len(x_t)) or x_t
    >>> MicroBatches(spy, size=4)(torch.zeros(6, 1, 2, 2), None).shape, seen
    (torch.Size([6, 1, 2, 2]), [4, 4])
    """

    def __init__(
        self, denoiser: Denoiser, size: int, *, padded: bool = True, precision: str = "fp32"
    ) -> None:
        self.denoiser = denoiser
        self.size = size
        self.padded = padded
        self.precision = precision

    def answer(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Answer:
        """Return what the denoiser says of all pieces."""
        count = len(x_t)
        x_t = self._padded(x_t)
        if class_labels is not None:
            class_labels = self._padded(class_labels)
        pieces = []
        for start in range(0, len(x_t), self.size):
            piece = slice(start, start + self.size)
            labels = None if class_labels is None else class_labels[piece]
            with autocast(x_t.device, self.precision):
                pieces.append(ask(self.denoiser, x_t[piece], level, labels))
        images, variances = zip(*pieces, strict=True)
        x0 = _joined(images, x_t.dtype)[:count]
        return Answer(x0, _joined(variances, x_t.dtype)[:count] if variances[0] is not None else None)

    def _padded(self, batch: Tensor) -> Tensor:
        """Return `batch`, its last entry repeated up to a multiple of the size."""
        missing = -len(batch) % self.size if self.padded else 0
        return torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])]) if missing else batch


def _joined(pieces: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    typed = [piece.to(dtype) for piece in pieces]
    return torch.cat(typed) if len(typed) > 1 else typed[0]
