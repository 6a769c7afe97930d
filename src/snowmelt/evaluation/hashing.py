"""What makes a cached result belong to its input."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["tensors_hash"]


def tensors_hash(tensors: Mapping[str, Tensor], *facts: object) -> str:
    """Return the SHA-256 of named tensors, to the bit, and of what else matters, as hexadecimal digits.

    >>> one, other = tensors_hash({"a": torch.zeros(2)}), tensors_hash({"a": torch.zeros(2)}, "resized")
    >>> one == tensors_hash({"a": torch.zeros(2)}), one == other
    (True, False)
    """
    digest = hashlib.sha256(repr(facts).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
