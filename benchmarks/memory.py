"""Memory of this process, as the kernel counts it."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["resident"]


def resident(field: str) -> int:
    """Return a number of KiB from the kernel's account of this process."""
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    if found is None:
        raise RuntimeError(f"no {field} in /proc/self/status: memory can be measured on Linux only")
    return int(found[1])
