"""What tells a checkpoint from another file without reading its tensors, and without torch."""

from __future__ import annotations

from pathlib import Path

import safetensors

__all__ = ["HEADER", "SUFFIXES", "may_be_checkpoint"]

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
HEADER = "snowmelt"  # of a safetensors file: what of a checkpoint is no tensor


def may_be_checkpoint(path: Path) -> bool:
    """Return whether a file looks like a checkpoint, by its name and, in safetensors, by its header.

    >>> may_be_checkpoint(Path("latest.pth")), may_be_checkpoint(Path("config.yaml"))
    (True, False)
    """
    if path.suffix not in SUFFIXES:
        return False
    if path.suffix != ".safetensors":
        return True
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return HEADER in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError):
        return False
