"""The U-Net of DDPM: down through ever smaller maps, and up again with a skip from each layer passed.

    conv_in -> stage 0 -> ... -> stage n-1 -> middle -> stage n-1 -> ... -> stage 0 -> conv_out
                  |_______________ skips _________________________________|

Stage i works on 1 / 2^i of the image's side, with ``model_channels * channel_multipliers[i]`` channels. Time
and class enter every residual block as one vector, the condition. Source: Ho et al. 2020 (DDPM),
appendix B; Dhariwal & Nichol 2021 (Diffusion Models Beat GANs), section 3, for what ``scale_shift`` and
resampling ``resnet`` add. Parameters are named and shaped as in diffusers' UNet2DModel.

With ``patch_size=p``, what flows through all of this is an image of 1 / p of the side, whose pixels are the
squares of p x p pixels of the image (Hoogeboom et al. 2023 (simple diffusion), section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snowmelt.networks.blocks import (
    Attention,
    Downsample,
    DownStage,
    MiddleStage,
    ResidualBlock,
    Upsample,
    UpStage,
    double,
    halve,
    zeroed,
)
from snowmelt.networks.cpu import norm_silu
from snowmelt.networks.embeddings import (
    AugmentEmbedding,
    ClassEmbedding,
    FourierFeatures,
    PositionalFeatures,
    TimeEmbedding,
    with_labels,
)
from snowmelt.networks.options import as_json, check_counts, check_size, pair

__all__ = ["UNet"]

_CHOICES = {
    "time_embedding": ("positional", "fourier"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "downsample": ("conv", "resnet"),
    "upsample": ("conv", "resnet"),
    "downsample_padding": (0, 1),
}
_COUNTS = (
    "in_channels",
    "out_channels",
    "model_channels",
    "layers_per_block",
    "mid_attention_norm_groups",
    "attention_head_dim",
    "attention_heads",
    "norm_groups",
    "patch_size",
)


class UNet(nn.Module):
    """A network that maps a noisy image, its time and its class to an image of the same size.

    The last layer of each residual block and of each attention, and the last convolution, start at zero.
    Everything else starts as torch makes it. So a new network is the zero function, each of its blocks is the
    identity, and training begins gently.

    Args:
        image_size: side of the square images, or (H, W), that it is made for; None for any. It is checked
            here and kept; the network runs on every size that `stride` divides.
        in_channels: channels of the noisy image.
        out_channels: channels of the result; None for `in_channels`.
        model_channels: width that the multipliers multiply.
        channel_multipliers: width of each stage, in units of `model_channels`.
        layers_per_block: residual blocks of a stage on the way down; one more on the way up.
        use_attention: attention behind the residual blocks: of all stages, of none, one bool a stage, or the
            side up to which a map gets it, in pixels: 16 for stages of 16 x 16 and smaller.
        mid_attention: attention in the middle.
        mid_attention_norm_groups: groups of the norm before it. None: `norm_groups`, but no norm at all with
            ``scale_shift``, as diffusers has it.
        attention_head_dim: channels of one attention head; None for one head of all channels.
        attention_heads: in its place, the number of heads of every attention.
        norm_groups: groups of every other norm.
        norm_eps: added to the variance in every norm.
        dropout: probability, inside the residual blocks.
        num_classes: number of classes; None or 0 for an unconditional network.
        has_null_class: one more label, `num_classes`, stands for no condition. Without it, labels must always
            be given, and guidance has nothing to lead away from.
        time_embedding: ``positional``, or ``fourier``, which reads log t and divides the result by t (Song
            et al. 2021, score networks of the VE SDE): its times must be > 0.
        flip_sin_to_cos: positional: cosines before sines.
        freq_shift: positional: 1 makes the last frequency 1/10000, 0 stops one step above.
        fourier_scale: fourier: standard deviation of the frequencies.
        resnet_time_scale_shift: ``default``: the condition shifts what enters a block's second norm;
            ``scale_shift``: it scales and shifts what leaves it.
        downsample: ``conv`` or ``resnet``, a residual block that averages.
        upsample: ``conv`` or ``resnet``, a residual block that repeats.
        downsample_padding: of ``conv``: 1 on all sides, 0 on the right and the lower side only.
        mid_block_scale_factor: divides what each block of the middle makes.
        augment_channels: numbers that say how a training image was changed (Karras et al. 2022, appendix
            F.2); 0 for none.
        patch_size: side of the squares of pixels that become one, with their channels side by side.

    Attributes:
        config: the arguments, `use_attention` as bools; ``UNet(**network.config)`` builds an equal network,
            also after JSON.
        image_size: (H, W), or None.
        null_class: the label that stands for no condition, `num_classes`; None where there is none.
        stride: what must divide H and W, patch_size * 2 ** (stages - 1).

    Raises:
        ValueError: options that don't fit each other, or the image size.

    >>> network = UNet(8, in_channels=1, model_channels=32, channel_multipliers=(1, 2), num_classes=10)
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
        model_channels: int = 64,
        channel_multipliers: Sequence[int] = (1, 2, 2),
        layers_per_block: int = 2,
        use_attention: bool | int | Sequence[bool] = False,
        mid_attention: bool = True,
        mid_attention_norm_groups: int | None = None,
        attention_head_dim: int | None = 8,
        attention_heads: int | None = None,
        norm_groups: int = 32,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        num_classes: int | None = None,
        has_null_class: bool = True,
        time_embedding: str = "positional",
        flip_sin_to_cos: bool = True,
        freq_shift: float = 0.0,
        fourier_scale: float = 16.0,
        resnet_time_scale_shift: str = "default",
        downsample: str = "conv",
        upsample: str = "conv",
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1.0,
        augment_channels: int = 0,
        patch_size: int = 1,
    ) -> None:
        # First of all, while the arguments are all there is
        config = as_json(locals())
        super().__init__()
        self.config = config
        _check_options(self.config)

        channels = [model_channels * multiplier for multiplier in channel_multipliers]
        last = len(channels) - 1
        self.patch_size = patch_size
        self.stride = patch_size * 2**last
        self.image_size = None if image_size is None else pair(image_size)
        if self.image_size is not None:
            check_size(self.image_size, self.stride)
        attended = _attended(use_attention, len(channels), self.image_size, patch_size)
        _check_stages(channels, attended, self.config)
        if not isinstance(use_attention, bool):
            self.config["use_attention"] = attended

        width = channels[0]
        condition_channels = 4 * width
        scale_shift = resnet_time_scale_shift == "scale_shift"
        residual = partial(
            ResidualBlock,
            condition_channels=condition_channels,
            groups=norm_groups,
            eps=norm_eps,
            dropout=dropout,
            scale_shift=scale_shift,
        )

        def attend(count: int, groups: int | None = norm_groups) -> Attention:
            head_dim = count // attention_heads if attention_heads else attention_head_dim
            return Attention(count, head_dim, groups, norm_eps)

        down: Callable[[int, int], nn.Module] = (
            partial(Downsample, padding=downsample_padding)
            if downsample == "conv"
            else partial(residual, resample=halve)
        )
        up: Callable[[int, int], nn.Module] = (
            Upsample if upsample == "conv" else partial(residual, resample=double)
        )

        self.time_proj: PositionalFeatures | FourierFeatures = (
            PositionalFeatures(width, flip_sin_to_cos, freq_shift)
            if time_embedding == "positional"
            else FourierFeatures(2 * width, fourier_scale)
        )
        self.time_embedding = TimeEmbedding(self.time_proj.channels, condition_channels)
        self.class_embedding = (
            ClassEmbedding(num_classes, has_null_class, condition_channels) if num_classes else None
        )
        self.augment_embedding = (
            AugmentEmbedding(augment_channels, condition_channels) if augment_channels else None
        )
        self.null_class = self.class_embedding.null_class if self.class_embedding is not None else None

        self.conv_in = nn.Conv2d(patch_size**2 * in_channels, width, 3, padding=1)
        # The channels that come into stage i: from above on the way down, from below on the way up
        above, below = [width, *channels[:-1]], [*channels[1:], channels[-1]]
        self.down_blocks = nn.ModuleList()
        for i, count in enumerate(channels):
            flowing = [above[i]] + [count] * (layers_per_block - 1)
            self.down_blocks.append(
                DownStage(
                    [residual(flow, count) for flow in flowing],
                    [attend(count) if attended[i] else nn.Identity() for _ in flowing],
                    [down(count, count)] if i < last else [],
                )
            )
        count = channels[-1]
        mid_groups = mid_attention_norm_groups or (None if scale_shift else norm_groups)
        self.mid_block = MiddleStage(
            [residual(count, count), residual(count, count)],
            [attend(count, groups=mid_groups)] if mid_attention else [],
            mid_block_scale_factor,
        )
        self.up_blocks = nn.ModuleList()
        for i, count in reversed(list(enumerate(channels))):
            # What flows up, and the skips that join it: of this stage's layers, then of its input
            flowing = [below[i]] + [count] * layers_per_block
            joining = [count] * layers_per_block + [above[i]]
            self.up_blocks.append(
                UpStage(
                    [residual(flow + skip, count) for flow, skip in zip(flowing, joining, strict=True)],
                    [attend(count) if attended[i] else nn.Identity() for _ in flowing],
                    [up(count, count)] if i > 0 else [],
                )
            )
        self.conv_norm_out = nn.GroupNorm(norm_groups, width, norm_eps)
        self.conv_out = zeroed(nn.Conv2d(width, patch_size**2 * (out_channels or in_channels), 3, padding=1))

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
            augment_labels: (B, augment_channels); None for images as they are, for which they would be 0.

        Returns:
            (B, out_channels, H, W).

        Raises:
            ValueError: a size that `stride` does not divide, labels for an unconditional network, or none for
                one that has classes and no null class.
        """
        check_size(x_t.shape[-2:], self.stride)
        dtype = self.conv_in.weight.dtype
        condition = self._condition(timesteps, class_labels, augment_labels, dtype)
        skips: list[Tensor] = [self.conv_in(F.pixel_unshuffle(x_t.to(dtype), self.patch_size))]
        for stage in self.down_blocks:
            skips += stage(skips[-1], condition)
        x = self.mid_block(skips[-1], condition)
        own = self.config["layers_per_block"] + 1  # skips of a stage
        for stage in self.up_blocks:
            x, skips = stage(x, skips[-own:], condition), skips[:-own]
        y = F.pixel_shuffle(self.conv_out(norm_silu(x, self.conv_norm_out)), self.patch_size)
        if isinstance(self.time_proj, PositionalFeatures):
            return y
        # Song & Ermon 2020 (Improved Techniques), technique 3: s(x, sigma) = s(x) / sigma
        return y / timesteps.to(dtype)[:, None, None, None]

    def _condition(
        self,
        timesteps: Tensor,
        class_labels: Tensor | None,
        augment_labels: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return what every residual block reads of time and labels, (B, 4 * width), activation applied."""
        embedding: Tensor = self.time_embedding(self.time_proj(timesteps).to(dtype))
        embeddings = self.class_embedding, self.augment_embedding
        return F.silu(with_labels(embedding, *embeddings, class_labels, augment_labels))


def _attended(
    use_attention: bool | int | Sequence[bool],
    stages: int,
    image_size: tuple[int, int] | None,
    patch_size: int,
) -> list[bool]:
    """Return whether each stage attends."""
    if isinstance(use_attention, bool):
        return [use_attention] * stages
    if isinstance(use_attention, Sequence):
        return list(use_attention)
    if image_size is None:
        raise ValueError(
            f"use_attention={use_attention} is a size, and image_size is None: state it, or one bool a stage"
        )
    return [max(image_size) <= use_attention * patch_size * 2**stage for stage in range(stages)]


def _check_options(config: dict[str, Any]) -> None:
    for name, choices in _CHOICES.items():
        if config[name] not in choices:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {config[name]!r}")
    check_counts(config, _COUNTS)
    multipliers = config["channel_multipliers"]
    if not multipliers or min(multipliers) < 1:
        raise ValueError(f"channel_multipliers must be one integer >= 1 for each stage, got {multipliers}")
    if config["augment_channels"] < 0:
        raise ValueError(f"augment_channels must be 0 or positive, got {config['augment_channels']}")


def _check_stages(channels: list[int], attended: list[bool], config: dict[str, Any]) -> None:
    if len(attended) != len(channels):
        raise ValueError(
            f"use_attention must be one bool, or one for each of the {len(channels)} stages, got {attended}"
        )
    stages = dict(enumerate(channels))
    middle = {len(channels) - 1: channels[-1]} if config["mid_attention"] else {}
    with_attention = {i: count for i, count in stages.items() if attended[i]} | middle
    _check_divides("norm_groups", config["norm_groups"], stages)
    _check_divides("mid_attention_norm_groups", config["mid_attention_norm_groups"], middle)
    heads = "attention_heads" if config["attention_heads"] else "attention_head_dim"
    _check_divides(heads, config[heads], with_attention)


def _check_divides(name: str, value: int | None, stages: dict[int, int]) -> None:
    """Raise unless `value` divides the channels of all `stages`, {number: channels}."""
    for stage, count in stages.items():
        if value is not None and count % value:
            common = gcd(*stages.values())
            fitting = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
            raise ValueError(
                f"{name}={value} does not divide the {count} channels of stage {stage} (counted from 0); "
                f"take one of {fitting}, or change model_channels"
            )
