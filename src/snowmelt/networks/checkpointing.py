"""Memory for time: a training step that keeps what enters each block, and computes the rest twice."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from snowmelt.networks.blocks import Attention, ResidualBlock
from snowmelt.networks.dit import TransformerBlock

__all__ = ["checkpoint_activations"]

_BLOCKS = (ResidualBlock, Attention, TransformerBlock)


def checkpoint_activations(network: nn.Module) -> None:
    """Let each block of a network keep its input alone for the backward, which computes the rest again.

    Outputs and gradients stay the same to the bit, also with dropout. The names of the weights do too, and
    without gradients nothing changes. docs/network.md says what it saves and costs.

    Source: Chen et al. 2016 (Training Deep Nets with Sublinear Memory Cost), section 3.

    Args:
        network: a UNet or DiT; other blocks than theirs are left alone.

    >>> from snowmelt.networks import UNet
    >>> network = UNet(8, 1, model_channels=32)
    >>> checkpoint_activations(network)
    >>> network(torch.randn(1, 1, 8, 8), torch.zeros(1)).sum().backward()
    """
    for block in network.modules():
        if isinstance(block, _BLOCKS):
            # Around the block, so that blocks know nothing of it
            block.forward = partial(_recomputed, block.forward)  # type: ignore[method-assign]


def _recomputed(forward: Callable[..., Any], *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False)
