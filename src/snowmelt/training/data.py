"""The images of a run, as its configuration describes them."""

from __future__ import annotations

from pathlib import Path

import torch

from snowmelt.config import Config
from snowmelt.data import DiffusionDataLoader
from snowmelt.data.balance import Balance
from snowmelt.errors import InputError
from snowmelt.formats import Shares
from snowmelt.training.accelerator import is_first_process

__all__ = ["training_data"]


def training_data(
    config: Config, device: torch.device, split_file: Path | None = None
) -> DiffusionDataLoader:
    """Return the data that `config.data` describes, in the shape of `config.model`.

    Args:
        config: of the run.
        device: where batches arrive.
        split_file: a division of the images to go on with, if it is there.

    Raises:
        InputError: the data is missing, or cannot be read.
    """
    data, architecture = config.data, config.model.architecture
    if data.paths.train is None:
        raise InputError("data.paths.train is needed: a folder of images, or a data set such as digits")
    return DiffusionDataLoader(
        data.paths.train,
        data.paths.val,
        split=Shares(**data.split.model_dump()) if data.split is not None else None,
        split_file=split_file,
        validate=config.training.validation.enabled,
        image_size=architecture.image_size,
        in_channels=architecture.in_channels,
        batch_size=data.loading.batch_size,
        num_workers=data.loading.num_workers,
        pin_memory=data.loading.pin_memory,
        shuffle_train=data.loading.shuffle_train,
        drop_last=data.loading.drop_last,
        classes=config.model.options().get("num_classes", 1) is not None,
        background=data.background,
        cache=data.loading.cache,
        device=device,
        show_progress=is_first_process(),
        seed=config.compute.seed,
        balance=Balance(**data.balance.model_dump()),
        **data.augmentation.options(),
    )
