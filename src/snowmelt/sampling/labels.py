"""Which classes to generate."""

from __future__ import annotations

__all__ = ["balanced_labels"]


def balanced_labels(num_samples: int, num_classes: int) -> list[int]:
    """Return labels spread evenly over the classes, class by class; the first classes take the remainder.

    >>> balanced_labels(5, 3)
    [0, 0, 1, 1, 2]
    """
    share, remainder = divmod(num_samples, num_classes)
    return [label for label in range(num_classes) for _ in range(share + (label < remainder))]
