"""What all networks make of their arguments: plain values to keep, and sizes that fit or are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["as_json", "check_counts", "check_size", "pair"]


def as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor, its ``locals()``, as JSON gives them back.

    >>> as_json({"self": None, "channel_multipliers": (1, 2)})
    {'channel_multipliers': [1, 2]}
    """
    return {
        name: list(value) if isinstance(value, list | tuple) else value
        for name, value in options.items()
        if name not in ("self", "__class__")
    }


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return (H, W) of one side or two."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def check_size(size: Sequence[int], stride: int) -> None:
    """Raise ValueError, with the nearest sizes that work, unless `stride` divides (H, W)."""
    if any(side % stride for side in size):
        smaller = " x ".join(str(max(1, side // stride) * stride) for side in size)
        larger = " x ".join(str(-(-side // stride) * stride) for side in size)
        nearest = larger if smaller == larger else f"{smaller} or {larger}"
        raise ValueError(
            f"image size {' x '.join(map(str, size))} does not fit: this network shrinks it by {stride}, so "
            f"height and width must be multiples of {stride}; the nearest sizes that work: {nearest}"
        )


def check_counts(config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise ValueError unless the arguments of these names are at least 1, or None."""
    for name in names:
        if config[name] is not None and config[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {config[name]}")
    if (config["num_classes"] or 0) < 0:
        raise ValueError(f"num_classes must be None, 0 or positive, got {config['num_classes']}")
