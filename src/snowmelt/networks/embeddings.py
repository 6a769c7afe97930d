"""From time and class to a vector: of a time by waves of many frequencies, then a small perceptron.

A network can't read a bare number well; it reads its phase on many waves, as hands of a clock that turn at
different speeds:

    features(t) = [sin(w_1 p), ..., sin(w_n p), cos(w_1 p), ..., cos(w_n p)].

Positions p = t and geometric frequencies give the positional features, p = log t and Gaussian frequencies
the Fourier features. Both are computed in float32, also in a network of another dtype:
in bfloat16, neighbouring times near 1000 would be one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "AugmentEmbedding",
    "ClassEmbedding",
    "FourierFeatures",
    "PositionalFeatures",
    "TimeEmbedding",
    "with_labels",
]


class PositionalFeatures(nn.Module):
    """Waves of geometric frequencies, from 1 to about 1/10000.

    Source: Vaswani et al. 2017 (Attention Is All You Need), section 3.5.

    Args:
        channels: length of a feature vector; an odd one ends in a zero.
        flip_sin_to_cos: cosines before sines.
        freq_shift: 1 makes the last frequency exactly 1/10000, 0 stops one step above.

    >>> PositionalFeatures(4, flip_sin_to_cos=True, freq_shift=1.0)(torch.zeros(1))
    tensor([[1., 1., 0., 0.]])
    """

    def __init__(self, channels: int, flip_sin_to_cos: bool, freq_shift: float) -> None:
        super().__init__()
        self.channels = channels
        self.flip_sin_to_cos = flip_sin_to_cos
        self.freq_shift = freq_shift

    def forward(self, timesteps: Tensor) -> Tensor:
        """Map (B,) real times to (B, channels) float32."""
        n = self.channels // 2
        i = torch.arange(n, dtype=torch.float32, device=timesteps.device)
        # Vaswani et al. 2017, section 3.5: w_i = 10000^(-i / n)
        frequencies = torch.exp(-math.log(10000) * i / (n - self.freq_shift))
        phases = timesteps.float()[:, None] * frequencies
        waves = (phases.cos(), phases.sin()) if self.flip_sin_to_cos else (phases.sin(), phases.cos())
        return F.pad(torch.cat(waves, dim=1), (0, self.channels % 2))


class FourierFeatures(nn.Module):
    """Waves of fixed random frequencies in log t.

    The frequencies are drawn once and belong to the weights. A network cast to half precision rounds them;
    autocast doesn't.

    Source: Tancik et al. 2020 (Fourier Features Let Networks Learn High Frequency Functions).

    Args:
        channels: length of a feature vector, even.
        scale: standard deviation of the frequencies.

    >>> FourierFeatures(4, scale=16.0)(torch.ones(1)).abs()
    tensor([[0., 0., 1., 1.]])
    """

    weight: Tensor

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("weight", scale * torch.randn(channels // 2))

    def forward(self, timesteps: Tensor) -> Tensor:
        """Map (B,) times > 0 to (B, channels) float32."""
        # Tancik et al. 2020, at the position log t: 2 pi w log t
        phases = 2 * math.pi * (timesteps.float().log()[:, None] * self.weight.float())
        return torch.cat((phases.sin(), phases.cos()), dim=1)


class TimeEmbedding(nn.Module):
    """The perceptron behind the features.

    Args:
        in_channels: length of a feature vector.
        out_channels: length of an embedding.

    >>> TimeEmbedding(4, 16)(torch.zeros(2, 4)).shape
    torch.Size([2, 16])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, out_channels)
        self.linear_2 = nn.Linear(out_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels) to (B, out_channels)."""
        embedding: Tensor = self.linear_2(F.silu(self.linear_1(features)))
        return embedding


class ClassEmbedding(nn.Embedding):
    """A vector for each class and, as the last one, for the null class.

    Args:
        num_classes: number of classes.
        has_null_class: one more label, `num_classes`, stands for no condition.
        channels: length of an embedding.

    Attributes:
        null_class: the label that stands for no condition; None where there is none.

    >>> embedding = ClassEmbedding(10, has_null_class=True, channels=4)
    >>> torch.equal(embedding(None, 2), embedding(torch.tensor([10, 10]), 2))
    True
    """

    def __init__(self, num_classes: int, has_null_class: bool, channels: int) -> None:
        super().__init__(num_classes + has_null_class, channels)
        self.null_class = num_classes if has_null_class else None

    def forward(self, class_labels: Tensor | None, count: int) -> Tensor:  # type: ignore[override]
        """Map (count,) labels, or None for as many null classes, to (count, channels).

        Raises:
            ValueError: there are no labels, and no null class.
        """
        if class_labels is None:
            if self.null_class is None:
                raise ValueError("class_labels are needed: this network has classes, and no null class")
            class_labels = torch.full((count,), self.null_class, device=self.weight.device)
        return super().forward(class_labels)


class AugmentEmbedding(nn.Linear):
    """A vector for how a training image was changed; zero for an image as it is (Karras et al. 2022, F.2).

    Args:
        augment_channels: how many numbers say it.
        channels: length of an embedding.
    """

    def __init__(self, augment_channels: int, channels: int) -> None:
        super().__init__(augment_channels, channels, bias=False)


def with_labels(
    embedding: Tensor,
    of_class: ClassEmbedding | None,
    of_changes: AugmentEmbedding | None,
    class_labels: Tensor | None,
    augment_labels: Tensor | None,
) -> Tensor:
    """Return the embedding (B, channels) of the time, with those of the labels added.

    Raises:
        ValueError: there are labels for which the network has no embedding, or none where they are needed.
    """
    if of_class is not None:
        embedding = embedding + of_class(class_labels, len(embedding))
    elif class_labels is not None:
        raise ValueError(
            "class_labels given to an unconditional network: leave them out, or build it with num_classes"
        )
    if augment_labels is None:
        return embedding
    if of_changes is None:
        raise ValueError(
            "augment_labels given to a network without augment_channels: build it with "
            f"augment_channels={augment_labels.shape[1]}, or turn conditioned off"
        )
    changed: Tensor = embedding + of_changes(augment_labels.to(embedding.dtype))
    return changed
