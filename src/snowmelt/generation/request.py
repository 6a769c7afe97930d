"""Stand-in until the sampler's own Request is here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Images"]


class Images(NamedTuple):
    """Which images."""

    seeds: Sequence[int]
    class_labels: Sequence[int] | None
    guidance_scale: float = 0.0
    use_ema: bool = True
