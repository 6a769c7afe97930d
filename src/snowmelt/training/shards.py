"""Tensors of which each process holds a part, DTensors of torch, and the way from whole ones and back.

Checkpoints hold whole tensors alone: they do not know how many processes wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from snowmelt.models.weights import is_shard

__all__ = ["divided", "gathered", "shard_like", "whole"]


def whole(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor. All processes must call this."""
    return tensor.full_tensor() if is_shard(tensor) else tensor  # type: ignore[attr-defined]


def shard_like(other: Tensor, tensor: Tensor) -> Tensor:
    """Return this process's part of a whole tensor, divided as another one of its shape is."""
    if not is_shard(other) or is_shard(tensor):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    # Each process has the whole one already: nothing is sent
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def gathered(tree: Any, *, keep: bool) -> Any:
    """Return nested dictionaries and lists with whole tensors, on the CPU, in place of parts.

    All processes must call this, with the same names.

    Args:
        tree: of tensors and plain values; whatever is whole stays as it is.
        keep: False in processes that need no whole tensors: they get their parts.
    """
    if isinstance(tree, Mapping):
        return {name: gathered(value, keep=keep) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(gathered(value, keep=keep) for value in tree)
    if not isinstance(tree, Tensor) or not is_shard(tree):
        return tree
    tensor = whole(tree)
    return tensor.cpu() if keep else tree


def divided(tree: Any, like: Any) -> Any:
    """Return nested dictionaries and lists with this process's parts of whole tensors.

    Args:
        tree: of whole tensors and plain values.
        like: as `tree`, with parts in some places; what has no such place stays as it is.
    """
    if isinstance(tree, Mapping) and isinstance(like, Mapping):
        return {name: divided(value, like.get(name)) for name, value in tree.items()}
    if isinstance(tree, list | tuple) and isinstance(like, list | tuple):
        return [divided(*pair) for pair in zip(tree, like, strict=True)]
    if isinstance(tree, Tensor) and isinstance(like, Tensor) and tree.shape == like.shape:
        return shard_like(like, tree)
    return tree
