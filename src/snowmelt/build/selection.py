"""Which images a configuration asks for: the class and the seed of each."""

from __future__ import annotations

import warnings

from snowmelt.config import Config
from snowmelt.config.schema import Sampling
from snowmelt.errors import InputError
from snowmelt.generation.labels import balanced_counts, counts_to_balance, labels_of
from snowmelt.sampling import image_seeds

__all__ = ["choose_images"]


def choose_images(
    config: Config, num_classes: int | None, names: list[str] | None, *, guided_by_class: bool = True
) -> tuple[list[int] | None, list[int], list[str] | None]:
    """Return the label of each image (None for an unconditional model), its seed, and the classes' names.

    Args:
        config: in mode ``generate``.
        num_classes: of the model; None for an unconditional one.
        names: of the classes, where they are known.
        guided_by_class: whether guidance, if there is any, needs a class to guide towards.

    Raises:
        InputError: the choices contradict each other, or the model.
    """
    sampling = config.generation.sampling
    if num_classes is None and guided_by_class and sampling.scale not in (0.0, 1.0):
        raise InputError(
            f"generation.sampling.guidance_scale is {sampling.scale:g}, but the model is unconditional: "
            "set it to 0.0"
        )
    counts, names = _class_counts(sampling, num_classes, names)
    labels = labels_of(counts) if counts is not None else None
    number = len(labels) if labels is not None else _number(sampling)
    if "num_samples" in sampling.model_fields_set and sampling.num_samples != number:
        raise InputError(
            f"generation.sampling.num_samples is {sampling.num_samples}, but the classes and seeds that are "
            f"asked for make {number}: leave num_samples out, or make them agree"
        )
    if sampling.seeds is not None and len(sampling.seeds) != number:
        raise InputError(
            f"generation.sampling.seeds has {len(sampling.seeds)} entries for {number} images: give one each"
        )
    return labels, sampling.seeds or image_seeds(config.compute.seed, number), names


def _number(sampling: Sampling) -> int:
    return len(sampling.seeds) if sampling.seeds is not None else sampling.num_samples


def _class_counts(
    sampling: Sampling, num_classes: int | None, names: list[str] | None
) -> tuple[dict[int, int] | None, list[str] | None]:
    if num_classes is None:
        for name in ("class_selection", "class_counts", "balance_to"):
            if getattr(sampling, name) is not None:
                raise InputError(
                    f"generation.sampling.{name} is given, but the model is unconditional: leave it out"
                )
        return None, None
    if sampling.balance_to is not None:
        return counts_to_balance(sampling.balance_to, num_classes, names)
    counts = sampling.class_counts
    if counts is None:
        classes = sampling.class_selection or range(num_classes)
        counts = balanced_counts(_number(sampling), sorted(set(classes)))
    if (highest := max(counts)) >= num_classes:
        raise InputError(f"class {highest} is asked for, but the model has the classes 0..{num_classes - 1}")
    if not all(counts.values()):
        warnings.warn(
            f"num_samples ({sum(counts.values())}) is below the number of classes ({len(counts)}): the last "
            "classes get no image",
            stacklevel=2,
        )
    return {label: counts[label] for label in sorted(counts) if counts[label]}, names
