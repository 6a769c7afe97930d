"""A digest of any contents, which shows damage and differences."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["content_digest"]


class _Hash(Protocol):
    def update(self, data: Any, /) -> None: ...


def content_digest(*contents: object) -> str:
    """Return the SHA-256 of nested dictionaries, lists, tensors and plain values, as hexadecimal digits.

    The order of a dictionary's keys does not count, nor does whether a sequence is a list or a tuple. Tensors
    count to the bit, with shape and dtype; their device does not.

    >>> one = content_digest({"a": torch.zeros(2), "b": [1, "x"]})
    >>> one == content_digest({"b": (1, "x"), "a": torch.zeros(2)})
    True
    >>> one == content_digest({"b": (1, "x"), "a": torch.ones(2)})
    False
    """
    digest = hashlib.sha256()
    _add(digest, contents)
    return digest.hexdigest()


def _add(digest: _Hash, value: object) -> None:
    if isinstance(value, Tensor):
        digest.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
        flat = value.detach().cpu().resolve_neg().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)};".encode())
        for key in sorted(value, key=str):
            digest.update(f"{key!s}:".encode())
            _add(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"sequence {len(value)};".encode())
        for item in value:
            _add(digest, item)
    else:
        digest.update(f"{value!r};".encode())
