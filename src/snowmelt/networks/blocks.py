"""What a U-Net is made of: residual blocks, attention, resampling, and the stages that hold them.

Every block adds a correction to what flows through it, x + f(x), and starts as the identity, because the
last layer of f starts at zero (Goyal et al. 2017, section 5.1; Dhariwal & Nichol 2021 for diffusion). All
maps are (B, C, H, W); the condition is one vector an image, (B, D), with the activation already applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = [
    "Attention",
    "DownStage",
    "Downsample",
    "GroupNorm",
    "MiddleStage",
    "ResidualBlock",
    "UpStage",
    "Upsample",
    "double",
    "halve",
    "zeroed",
]

M = TypeVar("M", bound=nn.Module)

# Measured, see docs/network.md
_MANY_PIXELS = 1024
_LARGE = 2**18  # values of a map


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


class GroupNorm(nn.GroupNorm):
    """Torch's group norm, as exact in float32 with a pixel's channels side by side as it is without.

    For that layout, the CPU's kernel takes the variance as E[x^2] - E[x]^2, which loses all digits of maps
    that are nearly flat. Without their mean they are safe, and the norm is the same.

    >>> flat = 1000 + torch.randn(1, 2, 8, 8, dtype=torch.float64)
    >>> exact, norm = F.group_norm(flat, 2), GroupNorm(2, 2)
    >>> rounded = norm(flat.float().clone(memory_format=torch.channels_last))
    >>> torch.allclose(rounded.double(), exact, atol=1e-3)
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        centre = _centre(x, self.num_groups)
        return super().forward(x if centre is None else x - centre)

    def silu(self, x: Tensor) -> Tensor:
        """Return the SiLU of the normed map; of a large one, the CPU keeps `x` alone for the backward.

        >>> norm, x = GroupNorm(2, 4), torch.randn(1, 4, 256, 256)
        >>> torch.allclose(norm.silu(x), F.silu(norm(x)), atol=1e-6)
        True
        """
        if x.is_cpu and x.dtype == torch.float32 and x.numel() >= _LARGE and torch.is_grad_enabled():
            activated: Tensor = _NormSilu.apply(x, self.weight, self.bias, self.num_groups, self.eps)
            return activated
        return silu(self(x))


def _centre(x: Tensor, groups: int) -> Tensor | None:
    """Return the mean of each group, (B, C, 1, 1), if the norm of `x` needs it subtracted first."""
    plain = x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last)
    if plain or not x.is_cpu or x.dtype != torch.float32:
        return None
    # Detached: a norm has no gradient along what it does not depend on
    means = x.detach().mean((2, 3)).unflatten(1, (groups, -1))
    centre: Tensor = means.mean(2, keepdim=True).expand_as(means).flatten(1)[:, :, None, None]
    return centre


class _NormSilu(torch.autograd.Function):
    """silu(norm(x)); its backward makes the normed map again, which costs less than keeping it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        centre = _centre(x, groups)
        centred = x if centre is None else x - centre
        sizes = (*x.shape[:2], x.shape[2:].numel(), groups)
        normed, mean, rstd = torch.ops.aten.native_group_norm(centred, weight, bias, *sizes, eps)
        ctx.save_for_backward(x, centre, mean, rstd, weight, bias)
        ctx.sizes = sizes
        return F.silu(normed, inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, centre, mean, rstd, weight, bias = ctx.saved_tensors
        centred = x if centre is None else x - centre
        scale = (rstd[:, :, None] * weight.view(ctx.sizes[-1], -1)).flatten(1)
        shift = bias - (mean[:, :, None] * scale.unflatten(1, (ctx.sizes[-1], -1))).flatten(1)
        normed = torch.addcmul(shift[:, :, None, None], centred, scale[:, :, None, None])
        grad = torch.ops.aten.silu_backward(grad, normed)
        layout = torch.channels_last if centre is not None else torch.contiguous_format
        return (
            *torch.ops.aten.native_group_norm_backward(
                grad.contiguous(memory_format=layout),
                centred.contiguous(memory_format=layout),
                mean,
                rstd,
                weight,
                *ctx.sizes,
                [True, True, True],
            ),
            None,
            None,
        )


def silu(x: Tensor) -> Tensor:
    """Return x sigmoid(x). Nothing may read `x` afterwards: without gradients the result takes its place.

    >>> silu(torch.tensor([0.0, 100.0]))
    tensor([  0., 100.])
    """
    return F.silu(x, inplace=not torch.is_grad_enabled())


def pixelwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply one linear map to every pixel, (B, C, H, W) to (B, C', H, W), for weights (C', C).

    >>> pixelwise(torch.ones(1, 2, 1, 1), torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])).flatten()
    tensor([6.])
    """
    if x.is_cpu:
        # The convolution of oneDNN reaches twice the speed of the matrix product of BLAS on some processors
        return F.conv2d(x, weight[:, :, None, None], bias)
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def double_and_convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the 3 x 3 convolution, zero-padded by 1, of `double(x)`, in 4/9 of the multiplications.

    Where each pixel stands four times, taps that meet the same pixel can be added up beforehand. What is
    left is a transposed convolution of stride 2, whose 4 x 4 kernel is that of the convolution, mirrored
    and laid over itself at the four pixels of a square.

    >>> x, weight = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    >>> plain = F.conv2d(double(x), weight, padding=1)
    >>> torch.allclose(double_and_convolve(x, weight, None), plain, atol=1e-5)
    True
    """
    mirrored = weight.transpose(0, 1).flip(2, 3)
    wide = F.pad(mirrored, (0, 1)) + F.pad(mirrored, (1, 0))
    kernel = F.pad(wide, (0, 0, 0, 1)) + F.pad(wide, (0, 0, 1, 0))
    return F.conv_transpose2d(x, kernel, bias, stride=2, padding=1)


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
        self.norm1 = GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(condition_channels, (1 + scale_shift) * out_channels)
        self.norm2 = GroupNorm(groups, out_channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.conv_shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H', W')."""
        h: Tensor = self.norm1.silu(x)
        if self.resample is not None:
            x, h = self.resample(x), self.resample(h)
        h = self.conv1(h)
        told = self.time_emb_proj(condition)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            # Dhariwal & Nichol 2021, section 3.1: AdaGN(h, y) = y_s GroupNorm(h) + y_b
            h = silu((1 + scale) * self.norm2(h) + shift)
        else:
            h = self.norm2.silu(h.add_(told))
        h = self.conv2(self.dropout(h))
        h += self.conv_shortcut(x)  # in place, as above: a convolution's result is its own to change
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
        self.group_norm = nn.Identity() if groups is None else GroupNorm(groups, channels, eps)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.Sequential(zeroed(nn.Linear(channels, channels)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        batch, channels, height, width = x.shape
        layers = (self.to_q, self.to_k, self.to_v)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        qkv = pixelwise(self.group_norm(x), weight, bias).permute(0, 2, 3, 1)
        heads = qkv.reshape(batch, height * width, 3, -1, self.head_dim).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*heads)  # q, k and v, each (B, heads, HW, d)
        seen = seen.transpose(1, 2).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return pixelwise(seen, *self.to_out.parameters()).add_(x)


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
        # The kernel is made anew in each call, which pays for many pixels only; in half precision its sums
        # would be rounded
        pixels = x.numel() // x.shape[1]
        if x.is_cpu and x.dtype == torch.float32 and pixels >= _MANY_PIXELS:
            return double_and_convolve(x, self.conv.weight, self.conv.bias)
        twice: Tensor = self.conv(double(x))
        return twice


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
        """Map `x` up, and take its skips off the end of `skips`."""
        for residual, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(residual(torch.cat((x, skips.pop()), dim=1), condition))
        for upsample in self.upsamplers:
            x = upsample(x, condition)
        return x
