"""Results as JSON: dataclasses become dictionaries, tensors become lists."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from os import PathLike
from typing import Any, NamedTuple

from torch import Tensor

from snowmelt.files import atomic_write

__all__ = ["Account", "Json", "plain", "write_json"]

Json = dict[str, Any]  # of plain values: numbers, texts, None, lists, and the same again


class Account(NamedTuple):
    """What was found: a text for a person, and figures for a program.

    >>> print(Account("8 images", {"images": 8}))
    8 images
    """

    text: str
    figures: Json

    def __str__(self) -> str:
        return self.text


def plain(value: Any) -> Any:
    """Return a result as the values that JSON knows. A number that is not finite becomes None.

    >>> plain({"loss": float("nan"), "labels": (1, 2)})
    {'loss': None, 'labels': [1, 2]}
    """
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | PathLike[str], value: Any) -> None:
    """Write a result as a JSON file, whole or not at all."""
    with atomic_write(path, "w") as file:
        json.dump(plain(value), file, indent=1)
        file.write("\n")
