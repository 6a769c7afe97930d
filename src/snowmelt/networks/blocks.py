"""The parts of a U-Net: residual blocks, attention, resampling, and the stages that hold them.

Every block adds a correction to what flows through it, x + f(x), and starts as the identity, because the
last layer of f starts at zero (Goyal et al. 2017, section 5.1; Dhariwal & Nichol 2021 for diffusion). All
maps are (B, C, H, W); the condition is one vector an image, (B, D), with the activation already applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snowmelt.networks.cpu import double_and_convolve, norm_silu

__all__ = [
    "Attention",
    "DownStage",
    "Downsample",
    "MiddleStage",
    "ResidualBlock",
    "UpStage",
    "Upsample",
    "double",
    "halve",
    "zeroed",
]

M = TypeVar("M", bound=nn.Module)


def zeroed(module: M) -> M:
    """Set all parameters of `module` to zero, and return it.

    >>> zeroed(nn.Linear(2, 1))(torch.ones(1, 2)).item()
    0.0
    """
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def halve(x: Tensor) -> Tensor:
    """Average each square of 2 x 2 pixels.

    >>> halve(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]))
    tensor([[[[1.5000]]]])
    """
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Repeat each pixel in a square of 2 x 2.

    >>> double(torch.tensor([[[[1.0, 2.0]]]]))
    tensor([[[[1., 1., 2., 2.],
              [1., 1., 2., 2.]]]])
    """
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class ResidualBlock(nn.Module):
    """Two convolutions around the condition: x + conv(silu(norm(h))), h = conv(silu(norm(x))) + W c.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result; where they differ, a 1 x 1 convolution carries x over.
        condition_channels: length of the condition.
        groups: groups of both norms.
        eps: added to their variances.
        dropout: probability, before the second convolution.
        scale_shift: the condition scales and shifts the second norm's result instead of shifting what enters
            it (Dhariwal & Nichol 2021, section 3.1).
        resample: `halve` or `double`, to change the size on both ways through the block.

    >>> block = ResidualBlock(4, 8, condition_channels=16, groups=2, resample=halve)
    >>> block(torch.zeros(1, 4, 6, 8), torch.zeros(1, 16)).shape
    torch.Size([1, 8, 3, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        condition_channels: int,
        groups: int,
        eps: float = 1e-5,
        dropout: float = 0.0,
        scale_shift: bool = False,
        resample: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(condition_channels, (1 + scale_shift) * out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.conv_shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H', W')."""
        h: Tensor = norm_silu(x, self.norm1)
        if self.resample is not None:
            x, h = self.resample(x), self.resample(h)
        h = self.conv1(h)
        projected = self.time_emb_proj(condition)[:, :, None, None]
        if self.scale_shift:
            scale, shift = projected.chunk(2, dim=1)
            # Dhariwal & Nichol 2021, section 3.1: AdaGN(h, y) = y_s GroupNorm(h) + y_b
            h = F.silu((1 + scale) * self.norm2(h) + shift)
        else:
            h = norm_silu(h.add_(projected), self.norm2)
        h = self.conv2(self.dropout(h))
        h += self.conv_shortcut(x)  # in place, as above: nobody else holds a convolution's result
        return h


class Attention(nn.Module):
    """Every pixel looks at every other: x + W_o softmax(q k^T / sqrt(d)) v.

    Source: Vaswani et al. 2017, eq. 1; q, k and v are linear in the normalised pixels.

    Args:
        channels: channels of x.
        head_dim: d, the channels of one head; divides `channels`. None for one head of all.
        groups: groups of the norm; None leaves it out.
        eps: added to its variance.

    >>> Attention(8, head_dim=4, groups=2)(torch.ones(1, 8, 2, 3)).shape
    torch.Size([1, 8, 2, 3])
    """

    def __init__(self, channels: int, head_dim: int | None, groups: int | None, eps: float = 1e-5) -> None:
        super().__init__()
        self.head_dim = head_dim or channels
        self.group_norm = nn.Identity() if groups is None else nn.GroupNorm(groups, channels, eps)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.Sequential(zeroed(nn.Linear(channels, channels)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        batch, channels, height, width = x.shape
        pixels = self.group_norm(x).flatten(2).transpose(1, 2).contiguous()  # (B, HW, channels)
        heads = (
            layer(pixels).unflatten(2, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, HW, d)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        attended = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        y: Tensor = x + self.to_out(attended).transpose(1, 2).reshape(batch, channels, height, width)
        return y


class Downsample(nn.Module):
    """Half the size, by a convolution of stride 2. The condition is not used.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        padding: 1 pads all four sides, 0 the right and the lower side only.

    >>> Downsample(4, 4, padding=0)(torch.zeros(1, 4, 6, 8), torch.zeros(1, 16)).shape
    torch.Size([1, 4, 3, 4])
    """

    def __init__(self, in_channels: int, out_channels: int, padding: int) -> None:
        super().__init__()
        self.one_sided = padding == 0
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / 2, W / 2)."""
        half: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)) if self.one_sided else x)
        return half


class Upsample(nn.Module):
    """Twice the size, by repetition and a convolution. The condition is not used.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.

    >>> Upsample(4, 4)(torch.zeros(1, 4, 3, 4), torch.zeros(1, 16)).shape
    torch.Size([1, 4, 6, 8])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, 2 H, 2 W)."""
        return double_and_convolve(x, self.conv)


class DownStage(nn.Module):
    """One size on the way down: residual blocks, each with attention behind it, then half the size.

    Args:
        resnets: the residual blocks.
        attentions: one for each, `nn.Identity` for none.
        downsamplers: one, or none on the last stage.
    """

    def __init__(
        self, resnets: Iterable[nn.Module], attentions: Iterable[nn.Module], downsamplers: Iterable[nn.Module]
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions)
        self.downsamplers = nn.ModuleList(downsamplers)

    def forward(self, x: Tensor, condition: Tensor) -> list[Tensor]:
        """Return what each layer makes of `x`, the last one's at the end: the way up wants them all."""
        made = []
        for residual, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(residual(x, condition))
            made.append(x)
        return made + [downsample(x, condition) for downsample in self.downsamplers]


class MiddleStage(nn.Module):
    """The smallest size: a residual block, attention, a residual block.

    Args:
        resnets: the two residual blocks.
        attentions: one, or none.
        scale: divides what each of them makes.
    """

    def __init__(self, resnets: Iterable[nn.Module], attentions: Iterable[nn.Module], scale: float) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions)
        self.scale = scale

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        first, last = self.resnets
        x = first(x, condition) / self.scale
        for attention in self.attentions:
            x = attention(x) / self.scale
        x = last(x, condition)
        return x / self.scale


class UpStage(nn.Module):
    """One size on the way up: residual blocks that also read a skip each, then twice the size.

    Args:
        resnets: the residual blocks.
        attentions: one for each, `nn.Identity` for none.
        upsamplers: one, or none on the last stage.
    """

    def __init__(
        self, resnets: Iterable[nn.Module], attentions: Iterable[nn.Module], upsamplers: Iterable[nn.Module]
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions)
        self.upsamplers = nn.ModuleList(upsamplers)

    def forward(self, x: Tensor, skips: list[Tensor], condition: Tensor) -> Tensor:
        """Map `x` up; the last one of `skips` is read first."""
        for residual, attention, skip in zip(self.resnets, self.attentions, reversed(skips), strict=True):
            x = attention(residual(torch.cat((x, skip), dim=1), condition))
        for upsample in self.upsamplers:
            x = upsample(x, condition)
        return x
