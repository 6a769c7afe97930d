"""Which images to generate: the class and the seed of each."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.sampling.noise import image_seeds
from snowmelt.text import counted

__all__ = ["balanced_counts", "balanced_labels", "choose_images", "counts_to_balance", "labels_of"]


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


def choose_images(
    num_classes: int | None,
    num_samples: int,
    *,
    exactly: bool = False,
    seeds: Sequence[int] | None = None,
    base_seed: int = 0,
    class_selection: Sequence[int] | None = None,
    class_counts: Mapping[int, int] | None = None,
    balance_to: str | Path | None = None,
    class_names: Sequence[str] | None = None,
) -> tuple[list[int] | None, list[int], list[str] | None]:
    """Return the label of each image (None for an unconditional model), its seed, and the classes' names.

    Args:
        num_classes: of the model; None for an unconditional one.
        num_samples: how many images, unless `seeds`, `class_counts` or `balance_to` say it.
        exactly: refuse seeds and classes that make another number than `num_samples`.
        seeds: one an image; None derives them from `base_seed`.
        class_selection: classes to generate in equal numbers; None for all.
        class_counts: how many images of each class.
        balance_to: a folder as for `counts_to_balance`, whose classes are filled up.
        class_names: of the model, if they are known.

    Raises:
        InputError: the choices contradict each other, or the model.

    >>> labels, seeds, _ = choose_images(10, 16, class_counts={7: 1, 3: 2})
    >>> labels, len(seeds)
    ([3, 3, 7], 3)
    """
    number = num_samples if seeds is None else len(seeds)
    names = _complete(class_names, num_classes)
    counts = dict(class_counts) if class_counts is not None else None
    labels = None
    if num_classes is None:
        choices = {
            "class_selection": class_selection,
            "class_counts": class_counts,
            "balance_to": balance_to,
        }
        if given := [name for name, choice in choices.items() if choice is not None]:
            raise InputError(f"{given[0]} is given, but the model is unconditional: leave it out")
    else:
        if balance_to is not None:
            counts, names = counts_to_balance(balance_to, num_classes, names)
        elif counts is None:
            counts = balanced_counts(number, sorted(set(class_selection or range(num_classes))))
        if (highest := max(counts)) >= num_classes:
            raise InputError(
                f"class {highest} is asked for, but the model has the classes 0..{num_classes - 1}"
            )
        if not all(counts.values()):
            warnings.warn(
                f"num_samples ({number}) is below the number of classes ({len(counts)}): the last classes "
                "get no image",
                stacklevel=2,
            )
        labels = labels_of(dict(sorted(counts.items())))
        number = len(labels)
    if exactly and num_samples != number:
        raise InputError(
            f"num_samples is {num_samples}, but the classes and seeds that are asked for make {number}: "
            "leave num_samples out, or make them agree"
        )
    if seeds is not None and len(seeds) != number:
        raise InputError(
            f"seeds has {counted(len(seeds), 'entry')} for {counted(number, 'image')}: give one each"
        )
    return labels, list(seeds) if seeds is not None else image_seeds(base_seed, number), names


def _complete(class_names: Sequence[str] | None, num_classes: int | None) -> list[str] | None:
    """Return a name for each class of a model, also for those that its training data did not have.

    >>> _complete(["cat", "dog"], 3)
    ['cat', 'dog', 'class 2']
    """
    if class_names is None or num_classes is None:
        return None
    return [*class_names[:num_classes], *(f"class {label}" for label in range(len(class_names), num_classes))]


def counts_to_balance(
    folder: str | Path, num_classes: int, class_names: Sequence[str] | None = None
) -> tuple[dict[int, int], list[str]]:
    """Return how many images each class of some images lacks to its largest one, and the classes' names.

    Args:
        folder: images as for `snowmelt.formats.open_images`, such as a folder with one for each class.
        num_classes: of the model.
        class_names: of the model, if they are known: then a class may have no images yet. Otherwise the
            classes of the images are 0, 1, ..., and there must be `num_classes` of them.

    Raises:
        InputError: there are no images, their classes differ from the model's, or nothing is missing.
    """
    from snowmelt.formats import open_images  # takes as long to import as torch

    source = open_images(folder)
    if source.labels is None:
        raise InputError(f"{folder} has no classes to balance: make a folder for each class")
    labels = source.labels.tolist()
    names = source.class_names or [str(label) for label in range(max(labels) + 1)]
    known = list(class_names) if class_names is not None else names
    if strangers := [name for name in names if name not in known]:
        raise InputError(
            f"{folder} has the classes {', '.join(strangers)}, which the model was not trained on; it knows "
            f"{', '.join(known)}"
        )
    if len(known) != num_classes:
        raise InputError(
            f"{folder} has {counted(len(known), 'class')} ({', '.join(known)}), but the model has "
            f"{num_classes}: make a folder for each class, if need be an empty one"
        )
    images = Counter(names[label] for label in labels)
    here = [images[name] for name in known]
    counts = {label: max(here) - count for label, count in enumerate(here) if count < max(here)}
    if not counts:
        raise InputError(f"{folder} is balanced already: each class has {counted(max(here), 'image')}")
    return counts, known
