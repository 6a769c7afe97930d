"""Which classes to generate, and how many images of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from snowmelt.errors import InputError

__all__ = ["balanced_counts", "balanced_labels", "counts_to_balance", "labels_of"]


def balanced_counts(num_samples: int, classes: Sequence[int]) -> dict[int, int]:
    """Return how many images of each class spread `num_samples` evenly; the first ones take the remainder.

    >>> balanced_counts(5, [0, 2, 7])
    {0: 2, 2: 2, 7: 1}
    """
    share, remainder = divmod(num_samples, len(classes))
    return {label: share + (place < remainder) for place, label in enumerate(classes)}


def balanced_labels(num_samples: int, num_classes: int) -> list[int]:
    """Return labels spread evenly over the classes, class by class; the first classes take the remainder.

    >>> balanced_labels(5, 3)
    [0, 0, 1, 1, 2]
    """
    return labels_of(balanced_counts(num_samples, range(num_classes)))


def labels_of(counts: Mapping[int, int]) -> list[int]:
    """Return the label of each image, class by class.

    >>> labels_of({3: 2, 7: 1})
    [3, 3, 7]
    """
    return [label for label, count in counts.items() for _ in range(count)]


def counts_to_balance(
    folder: str | Path, num_classes: int, class_names: Sequence[str] | None = None
) -> tuple[dict[int, int], list[str]]:
    """Return how many images each class of an image folder lacks to its largest one, and the classes' names.

    Args:
        folder: one sub-folder a class, as torchvision's ImageFolder wants it.
        num_classes: of the model.
        class_names: of the model, where they are known: then a class may have no folder yet. Otherwise the
            sorted folders are the classes 0, 1, ..., and there must be `num_classes` of them.

    Raises:
        InputError: the folder is not there, its classes are not the model's, or nothing is missing.
    """
    from torchvision.datasets import ImageFolder  # takes as long to import as torch

    try:
        data = ImageFolder(str(folder), allow_empty=True)
    except FileNotFoundError as error:
        raise InputError(f"{folder} has no class folders to balance: {error}") from error
    known = list(class_names) if class_names is not None else list(data.classes)
    if strangers := sorted(set(data.classes) - set(known)):
        raise InputError(
            f"{folder} has the classes {', '.join(strangers)}, which the model was not trained on; it knows "
            f"{', '.join(known)}"
        )
    if len(known) != num_classes:
        raise InputError(
            f"{folder} has {len(known)} classes ({', '.join(known)}), but the model has {num_classes}: "
            "make a folder for each class, if need be an empty one"
        )
    here = [sum(data.classes[target] == name for target in data.targets) for name in known]
    counts = {label: max(here) - count for label, count in enumerate(here) if count < max(here)}
    if not counts:
        raise InputError(f"{folder} is balanced already: each class has {max(here)} images")
    return counts, known
