"""Check the model of a checkpoint file."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from snowmelt.diagnosis.check import check_denoiser
from snowmelt.diagnosis.report import Report
from snowmelt.formats import ImageSource, open_images, renumber_classes
from snowmelt.images import BACKGROUND, from_uint8
from snowmelt.models import Checkpoint

__all__ = ["check_checkpoint"]


def check_checkpoint(
    checkpoint: Checkpoint,
    images: str | Path,
    num_images: int = 64,
    *,
    device: str | torch.device = "cpu",
    use_ema: bool = True,
    seed: int = 0,
    show_progress: bool = False,
) -> Report:
    """Check the model of a checkpoint on real images, as `check_denoiser` does.

    Args:
        checkpoint: of the model.
        images: as for `snowmelt.formats.open_images`; brought to the model's shape, and
            transparent pixels to the background of its training.
        num_images: how many of them to look at, from all over the set.
        device: where.
        use_ema: check the averaged weights, if there are any.
        seed: of the noise.
        show_progress: show a bar.

    Raises:
        InputError: model or images cannot be read.
        ValueError: there are too few images, or they are all the same.
    """
    model = checkpoint.model().to(device)
    channels, height, width = model.image_shape
    background = checkpoint.background or BACKGROUND
    source = open_images(images, image_size=(height, width), channels=channels, background=background)
    source = renumber_classes(source, checkpoint.class_names)
    chosen, labels = _chosen(source, num_images, model.num_classes)
    ema = checkpoint.averaged(model, device) if use_ema else None
    with nullcontext() if ema is None else ema.applied():
        return check_denoiser(model, chosen.to(device), labels, seed=seed, show_progress=show_progress)


def _chosen(source: ImageSource, count: int, num_classes: int | None) -> tuple[Tensor, Tensor | None]:
    """Return images from all over the set, and their labels if the model can know them."""
    wanted = torch.linspace(0, len(source) - 1, min(count, len(source)), dtype=torch.float64).long()
    images = from_uint8(source.take(wanted.tolist()))
    if source.labels is None or num_classes is None:
        return images, None
    labels = source.labels[wanted]
    if labels.max() >= num_classes:
        warnings.warn(
            f"{source.name} has classes that the model, with {num_classes}, does not know: the labels are "
            "left out",
            stacklevel=3,
        )
        return images, None
    return images, labels
