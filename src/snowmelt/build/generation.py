"""Generation mode: a checkpoint in, pictures out. No optimizer, no data, no trainer.

The network is rebuilt from the checkpoint alone; the file's `model` section is needed only for weights
that come without their configuration. `snowmelt.config.save_config` writes what was asked for beside the
pictures.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from snowmelt.build.device import resolve_device
from snowmelt.build.model import model_options, stated_model_options
from snowmelt.build.plans import read_plan
from snowmelt.checkpoint import load_weights, read_checkpoint
from snowmelt.config import Config, resolve_output_path, save_config
from snowmelt.config.schema import Sampling
from snowmelt.core import NoiseSchedule
from snowmelt.denoisers import create_ddpm
from snowmelt.ema import EMA
from snowmelt.errors import InputError
from snowmelt.progress import progress
from snowmelt.sampling import DiffusionSampler, balanced_labels, image_seeds
from snowmelt.sampling.writers import write_grid, write_individual, write_labels

__all__ = ["build_sampler", "prepare_generation"]


def build_sampler(config: Config) -> DiffusionSampler:
    """Return the sampler that `config.generation` describes, with the checkpoint's weights.

    Warns where the file contradicts the checkpoint, and where EMA weights are asked for and absent.
    """
    path = Path(config.generation.checkpoint or "")
    device = resolve_device(config.compute.device)
    print(f"Loading checkpoint: {path}")
    checkpoint = read_checkpoint(path)
    model = create_ddpm(**_model_options(config, checkpoint, path))
    load_weights(model, checkpoint["model_state_dict"], source=path)

    ema = None
    if config.generation.sampling.use_ema:
        if "ema_state_dict" in checkpoint:
            ema = EMA(model.to(device), device=device)
            ema.load_state_dict(checkpoint["ema_state_dict"])
            print("Loaded EMA weights from checkpoint")
        else:
            warnings.warn(
                f"use_ema=True but checkpoint {path} has no EMA weights: falling back to standard model "
                "weights. Train with training.ema.enabled: true, or set generation.sampling.use_ema: false",
                stacklevel=2,
            )
    sampling = config.generation.sampling
    threshold = None if sampling.threshold == "none" else sampling.threshold
    method = _method(sampling, model.schedule)
    return DiffusionSampler(model, device, ema, threshold=threshold, **method)


def prepare_generation(config: Config) -> Callable[[], Path]:
    """Check everything that can fail, and return the function that generates and returns the folder."""
    sampler = build_sampler(config)
    sampling, output = config.generation.sampling, config.generation.output
    num_classes = sampler.model.num_classes
    if num_classes is None and sampling.guidance_scale not in (0.0, 1.0):
        raise InputError(
            f"generation.sampling.guidance_scale is {sampling.guidance_scale:g}, but the model is "
            "unconditional: set it to 0.0"
        )
    if num_classes is not None and sampling.num_samples < num_classes:
        warnings.warn(
            f"num_samples ({sampling.num_samples}) is below the number of classes ({num_classes}): the last "
            "classes get no image",
            stacklevel=2,
        )
    labels = balanced_labels(sampling.num_samples, num_classes) if num_classes is not None else None
    seeds = image_seeds(config.compute.seed, sampling.num_samples)
    folder = resolve_output_path(config, "generated")

    def generate() -> Path:
        print(f"Generating {sampling.num_samples} samples with {sampler.plan!r}")
        samples = _sample(
            sampler, labels, seeds, sampling.guidance_scale, sampling.use_ema, sampling.batch_size
        )
        save_config(config, folder / "config.yaml")
        if output.save_grid:
            print(f"Saved generated grid to: {write_grid(samples, folder, output.grid_nrow)}")
        if output.save_individual:
            write_individual(samples, folder)
            write_labels(folder, labels, seeds)
            print(f"Saved {len(samples)} individual samples to: {folder}")
        return folder

    return generate


def _method(sampling: Sampling, schedule: NoiseSchedule) -> dict[str, Any]:
    """Return the arguments of `DiffusionSampler` that say how to sample."""
    if sampling.plan is not None:
        return {"plan": read_plan(sampling.plan, schedule)}
    if sampling.preset is not None:
        return {"preset": sampling.preset}
    return sampling.sampler.arguments()


def _sample(
    sampler: DiffusionSampler,
    labels: list[int] | None,
    seeds: list[int],
    guidance_scale: float,
    use_ema: bool,
    batch_size: int,
) -> torch.Tensor:
    """Sample in batches, the finished ones on the CPU."""
    batches = []
    single = len(seeds) <= batch_size
    with progress(None, "Generating", show=not single, total=len(seeds), unit="image") as bar:
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            batch = sampler.sample(
                len(seeds[part]),
                labels[part] if labels is not None else None,
                guidance_scale,
                use_ema,
                show_progress=single,
                seeds=seeds[part],
            )
            batches.append(batch.cpu())
            bar.update(len(batch))
    return torch.cat(batches)


def _model_options(config: Config, checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return what to build: the checkpoint's own configuration, or the file's for bare weights."""
    stated = stated_model_options(config)
    if "model_config" not in checkpoint:
        if not stated:
            raise InputError(
                f"{path} holds weights but not the model's configuration: describe the model under `model` "
                "in the file, as it was trained"
            )
        return {**model_options(config), **_known_classes(checkpoint)}
    saved = checkpoint["model_config"]
    for name, value in stated.items():
        if value != saved.get(name, value):
            warnings.warn(
                f"the file says {name} = {value}, but {path} was trained with {saved[name]}: "
                "the checkpoint's value is used",
                stacklevel=3,
            )
    return dict(saved)


def _known_classes(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return {"num_classes": checkpoint["num_classes"]} if "num_classes" in checkpoint else {}
