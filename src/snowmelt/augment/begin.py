"""The configuration of a job: that of its folder, or a new one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from snowmelt.augment.job import AugmentJob
from snowmelt.config.augment import AugmentConfig
from snowmelt.config.load import load_as
from snowmelt.errors import InputError
from snowmelt.files import atomic_write, check_writable

__all__ = ["NAME", "begun", "keep"]

NAME = "augment.yaml"


def begun(data: str, folder: Path, budget: str | None, overrides: Sequence[str]) -> AugmentConfig:
    """Return the configuration of the job in a folder, with changes; of a new job if there is none.

    Raises:
        InputError: the folder belongs to a job with other images, or holds something else.
        ConfigError: a value is wrong.
    """
    check_writable(folder)
    path = folder / NAME
    changes = [*([f"budget={budget}"] if budget is not None else []), *overrides]
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty and has no {NAME}: give another folder with --out")
        return load_as(AugmentConfig, "-", [f"data={json.dumps(data)}", *changes])
    config = load_as(AugmentConfig, path, changes)
    if config.data != data:
        raise InputError(
            f"{folder} belongs to a job with {config.data}, not {data}: give another folder with --out"
        )
    return config


def keep(job: AugmentJob) -> None:
    """Write the configuration into the folder of the job.

    Raises:
        InputError: the images cannot be divided; then nothing is written.
    """
    _ = job.division
    with atomic_write(job.folder / NAME, "w") as file:
        file.write(OmegaConf.to_yaml(OmegaConf.create(job.config.model_dump(mode="json"))))
