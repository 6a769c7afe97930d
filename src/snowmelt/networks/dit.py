"""The diffusion transformer: squares of pixels as tokens, and time and class in every block's norms.

    patches -> linear + position -> block 1 -> ... -> block n -> norm -> linear -> patches

Each block adds attention and then a perceptron to the tokens. Both see normed tokens that the condition has
scaled and shifted, and it scales what they add (adaLN-Zero):

    x = x + gate(c) f((1 + scale(c)) norm(x) + shift(c)).

Source: Peebles & Xie 2023 (Scalable Diffusion Models with Transformers), section 3.2 and figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snowmelt.networks.blocks import zeroed
from snowmelt.networks.embeddings import (
    AugmentEmbedding,
    ClassEmbedding,
    PositionalFeatures,
    TimeEmbedding,
    with_labels,
)
from snowmelt.networks.options import as_json, check_counts, check_size, pair

__all__ = ["DiT", "TransformerBlock", "positions"]

_COUNTS = (
    "in_channels",
    "out_channels",
    "model_channels",
    "depth",
    "attention_head_dim",
    "patch_size",
    "mlp_ratio",
)
_TIME_CHANNELS = 256  # waves of the time, as in the paper's code
_EPS = 1e-6  # added to the variances, as in the paper's code


class DiT(nn.Module):
    """A network that maps a noisy image, its time and its class to an image of the same size.

    The layers that make scales, shifts and gates start at zero, and so does the last layer: a new network is
    the zero function, and each of its blocks is the identity. Its other linear layers start as in the paper's
    code (Glorot & Bengio 2010). The smallest network of the paper, DiT-S/2, is the default.

    Args:
        image_size: side of the square images, or (H, W), that it is made for; None for any. It is checked
            here and kept; the network runs on every size that `stride` divides.
        in_channels: channels of the noisy image.
        out_channels: channels of the result; None for `in_channels`.
        model_channels: length of a token, a multiple of 4.
        depth: number of blocks.
        attention_head_dim: channels of one attention head; None for one head of all channels.
        patch_size: side of the squares of pixels that become a token each.
        mlp_ratio: width of a perceptron, in units of `model_channels`.
        qk_norm: norm each head's queries and keys, which the paper does not (Henry et al. 2020; for diffusion
            Esser et al. 2024). It keeps attention from growing too sharp for half precision.
        dropout: probability, of what each attention and each perceptron adds.
        num_classes: number of classes; None or 0 for an unconditional network.
        has_null_class: one more label, `num_classes`, stands for no condition. Without it, labels must always
            be given, and guidance has nothing to lead away from.
        augment_channels: numbers that say how a training image was changed (Karras et al. 2022, appendix
            F.2); 0 for none.

    Attributes:
        config: the arguments; ``DiT(**network.config)`` builds an equal network, also after JSON.
        image_size: (H, W), or None.
        null_class: the label that stands for no condition, `num_classes`; None where there is none.
        stride: what must divide H and W, the patch size.

    Raises:
        ValueError: options that don't fit each other, or the image size.

    >>> network = DiT(8, in_channels=1, model_channels=32, depth=2, attention_head_dim=8, num_classes=10)
    >>> x_t, timesteps = torch.randn(3, 1, 8, 12), torch.tensor([0.0, 10.5, 999.0])
    >>> network(x_t, timesteps, class_labels=torch.tensor([7, 0, 10])).shape
    torch.Size([3, 1, 8, 12])
    >>> network.stride, network.null_class
    (2, 10)
    """

    def __init__(
        self,
        image_size: int | Sequence[int] | None,
        in_channels: int,
        out_channels: int | None = None,
        *,
        model_channels: int = 384,
        depth: int = 12,
        attention_head_dim: int | None = 64,
        patch_size: int = 2,
        mlp_ratio: int = 4,
        qk_norm: bool = False,
        dropout: float = 0.0,
        num_classes: int | None = None,
        has_null_class: bool = True,
        augment_channels: int = 0,
    ) -> None:
        # First of all, while the arguments are all there is
        config = as_json(locals())
        super().__init__()
        self.config = config
        check_counts(config, _COUNTS)
        head_dim = attention_head_dim or model_channels
        _check_divides("4", 4, model_channels)
        _check_divides(f"attention_head_dim={head_dim}", head_dim, model_channels)
        self.patch_size = patch_size
        self.stride = patch_size
        self.image_size = None if image_size is None else pair(image_size)
        if self.image_size is not None:
            check_size(self.image_size, self.stride)

        self.patch_in = nn.Linear(patch_size**2 * in_channels, model_channels)
        self.time_proj = PositionalFeatures(_TIME_CHANNELS, flip_sin_to_cos=True, freq_shift=0.0)
        self.time_embedding = TimeEmbedding(_TIME_CHANNELS, model_channels)
        self.class_embedding = (
            ClassEmbedding(num_classes, has_null_class, model_channels) if num_classes else None
        )
        self.null_class = self.class_embedding.null_class if self.class_embedding is not None else None
        self.augment_embedding = (
            AugmentEmbedding(augment_channels, model_channels) if augment_channels else None
        )
        self.blocks = nn.ModuleList(
            TransformerBlock(model_channels, head_dim, mlp_ratio, qk_norm=qk_norm, dropout=dropout)
            for _ in range(depth)
        )
        self.modulation_out = nn.Linear(model_channels, 2 * model_channels)
        self.patch_out = nn.Linear(model_channels, patch_size**2 * (out_channels or in_channels))
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        embeddings = [self.time_embedding.linear_1, self.time_embedding.linear_2, self.class_embedding]
        for embedding in embeddings:
            if embedding is not None:
                nn.init.normal_(embedding.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, TransformerBlock):
                zeroed(module.modulation)
        zeroed(self.modulation_out)
        zeroed(self.patch_out)

    def forward(
        self,
        x_t: Tensor,
        timesteps: Tensor,
        class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the network's output, in the dtype of its weights.

        Args:
            x_t: (B, in_channels, H, W), with H and W multiples of `stride`.
            timesteps: (B,), the times on the scale of the trained indices, whole or not.
            class_labels: (B,) int64, 0 .. num_classes - 1, or the null class, which None stands for.
            augment_labels: (B, augment_channels); None for images as they are, which zeros stand for too.

        Returns:
            (B, out_channels, H, W).

        Raises:
            ValueError: a size that `stride` does not divide, labels for an unconditional network, or none for
                one that has classes and no null class.
        """
        check_size(x_t.shape[-2:], self.stride)
        dtype = self.patch_in.weight.dtype
        condition = self._condition(timesteps, class_labels, augment_labels, dtype)
        patches = F.pixel_unshuffle(x_t.to(dtype), self.patch_size)  # (B, C p^2, H / p, W / p)
        height, width = patches.shape[-2:]
        tokens = self.patch_in(patches.flatten(2).transpose(1, 2))
        tokens = tokens + positions(height, width, tokens.shape[2], x_t.device).to(dtype)
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.modulation_out(condition)[:, None].chunk(2, dim=2)
        y = self.patch_out(_modulated(tokens, shift, scale)).transpose(1, 2)
        return F.pixel_shuffle(y.unflatten(2, (height, width)), self.patch_size)

    def _condition(
        self,
        timesteps: Tensor,
        class_labels: Tensor | None,
        augment_labels: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return what every block reads of time and labels, (B, model_channels), activation applied."""
        embedding: Tensor = self.time_embedding(self.time_proj(timesteps).to(dtype))
        embeddings = self.class_embedding, self.augment_embedding
        return F.silu(with_labels(embedding, *embeddings, class_labels, augment_labels))


class TransformerBlock(nn.Module):
    """Attention and a perceptron, each between norm and gate.

    Args:
        channels: length of a token.
        head_dim: channels of one attention head; divides `channels`.
        mlp_ratio: width of the perceptron, in units of `channels`.
        qk_norm: norm each head's queries and keys.
        dropout: probability, of what each of the two adds.

    >>> block = TransformerBlock(8, head_dim=4, mlp_ratio=4)
    >>> block(torch.zeros(2, 6, 8), torch.zeros(2, 8)).shape
    torch.Size([2, 6, 8])
    """

    def __init__(
        self, channels: int, head_dim: int, mlp_ratio: int, *, qk_norm: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.modulation = nn.Linear(channels, 6 * channels)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.norm_q = nn.RMSNorm(head_dim) if qk_norm else nn.Identity()
        self.norm_k = nn.RMSNorm(head_dim) if qk_norm else nn.Identity()
        self.to_out = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, mlp_ratio * channels),
            nn.GELU(approximate="tanh"),
            nn.Linear(mlp_ratio * channels, channels),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, tokens, channels) to the same shape."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(condition)[:, None].chunk(6, 2)
        x = x + gate_1 * self.dropout(self._attend(_modulated(x, shift_1, scale_1)))
        y: Tensor = x + gate_2 * self.dropout(self.mlp(_modulated(x, shift_2, scale_2)))
        return y

    def _attend(self, x: Tensor) -> Tensor:
        # Vaswani et al. 2017, eq. 1; each of q, k, v is (B, heads, tokens, head_dim)
        q, k, v = (
            layer(x).unflatten(2, (-1, self.head_dim)).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        attended = F.scaled_dot_product_attention(self.norm_q(q), self.norm_k(k), v)
        y: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return y


def positions(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Return what says where a token stands: waves of its column, then of its row.

    Source: Vaswani et al. 2017, section 3.5, in two dimensions as He et al. 2022 (MAE) have it.

    Args:
        height: rows of tokens.
        width: columns of tokens.
        channels: length of a token, a multiple of 4.
        device: where the result is made.

    Returns:
        (height * width, channels) float32, row by row.

    >>> positions(1, 2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0000, 1.0000]])
    """
    waves = PositionalFeatures(channels // 2, flip_sin_to_cos=False, freq_shift=0.0)
    columns, rows = (waves(torch.arange(side, device=device)) for side in (width, height))
    return torch.cat((columns.repeat(height, 1), rows.repeat_interleave(width, 0)), dim=1)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=_EPS), 1 + scale)


def _check_divides(name: str, number: int, channels: int) -> None:
    if channels % number:
        raise ValueError(f"{name} does not divide model_channels={channels}: change one of them")
