"""The job of a configuration."""

from __future__ import annotations

import json
import shlex
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from snowmelt.config import Config, resolve_output_path
from snowmelt.device import resolve_device
from snowmelt.errors import InputError
from snowmelt.formats import WRITERS, class_numbers
from snowmelt.generation.job import Job, auto_shard_size, grid_step
from snowmelt.generation.labels import choose_images
from snowmelt.generation.manifest import read_manifest
from snowmelt.generation.team import ALONE, Team
from snowmelt.models import Checkpoint, ModelSpec
from snowmelt.models.guidance_files import read_guidance
from snowmelt.sampling import DiffusionSampler

__all__ = ["build_job", "build_sampler", "provenance"]


def build_job(config: Config, team: Team = ALONE, *, overwrite: bool = False, quiet: bool = False) -> Job:
    """Return the job that `config.generation` describes.

    Args:
        config: what to generate, from which checkpoint, and where to.
        team: the processes that share the job.
        overwrite: remove first what another job has written in the folder.
        quiet: print nothing and show no progress.

    Raises:
        InputError: the checkpoint cannot be read, or the choices contradict each other.
    """
    sampling, output = config.generation.sampling, config.generation.output
    path = Path(config.generation.checkpoint or "")
    if not quiet:
        print(f"Loading checkpoint: {path}")
    checkpoint = _described(Checkpoint.read(path), config)
    folder = resolve_output_path(config, "generated")
    precision = _precision(config, checkpoint, folder, team, overwrite=overwrite, quiet=quiet)
    sampler = build_sampler(config, checkpoint, precision, local_rank=team.local_rank)
    if not quiet and sampler.ema is not None:
        print("Loaded EMA weights from checkpoint")
    labels, seeds, names = choose_images(
        sampler.model.num_classes,
        sampling.num_samples,
        exactly="num_samples" in sampling.model_fields_set,
        seeds=sampling.seeds,
        base_seed=config.compute.seed,
        class_selection=sampling.class_selection,
        class_counts=sampling.class_counts,
        balance_to=sampling.balance_to,
        class_names=checkpoint.class_names,
    )
    if not output.save_individual:  # only those that the picture shows
        step = grid_step(len(seeds))
        labels, seeds = labels[::step] if labels is not None else None, seeds[::step]
    writer = None
    if output.save_individual:
        num_classes, shard_size = sampler.model.num_classes, output.shard_size
        if shard_size == "auto":
            shard_size = auto_shard_size(len(seeds), sampler.micro_batch)
        writer = WRITERS[output.format](
            folder,
            seeds,
            labels,
            shard_size=shard_size,
            class_names=names or (class_numbers(num_classes) if num_classes is not None else None),
            metadata=provenance(config, sampler, checkpoint.digest),
        )
    return Job(
        sampler,
        sampler.request(len(seeds), labels, sampling.scale, sampling.use_ema, seeds),
        folder,
        writer,
        batch_size=sampling.batch_size,
        grid_nrow=output.grid_nrow if output.save_grid else None,
        class_names=names,
        arguments=config.model_dump(mode="json"),
        overwrite=overwrite,
        team=team,
        quiet=quiet,
    )


def build_sampler(
    config: Config, checkpoint: Checkpoint, precision: str | None = None, *, local_rank: int = 0
) -> DiffusionSampler:
    """Return the sampler of a configuration; the checkpoint decides what the file does not state."""
    sampling = config.generation.sampling
    precision = precision or config.compute.precision or "fp32"
    options: dict[str, Any] = {"memory_share": sampling.memory_share, "precision": precision}
    if (words := sampling.method) is not None:
        options["method"] = words  # steps or an option alone change the checkpoint's own method
    if sampling.guidance is not None:
        options["guidance"] = read_guidance(sampling.guidance.options(), checkpoint.model())
    if sampling.threshold != "auto":
        options["threshold"] = None if sampling.threshold == "none" else sampling.threshold
    if sampling.micro_batch != "auto":
        options["micro_batch"] = sampling.micro_batch
    device = resolve_device(config.compute.device, local_rank)
    return DiffusionSampler.from_pretrained(
        checkpoint, device, use_ema=sampling.use_ema, guidance_scale=sampling.scale, **options
    )


def _precision(
    config: Config, checkpoint: Checkpoint, folder: Path, team: Team, *, overwrite: bool, quiet: bool
) -> str | None:
    """Return the precision of a job for which the file says auto: that of its beginning, or what is faster.

    The first process decides for all, because each would measure something else.
    """

    def decide() -> tuple[str, str]:
        manifest = None if overwrite else read_manifest(folder)
        if manifest is not None and (kept := manifest["identity"].get("precision")):
            return kept, f"The job goes on in {kept}"
        sampler = build_sampler(config, checkpoint, local_rank=team.local_rank)
        return sampler.precision, sampler.precision_reason

    if config.compute.precision != "auto":
        return config.compute.precision
    precision, reason = team.agree(decide)
    if not quiet:
        print(reason)
    return precision


def _described(checkpoint: Checkpoint, config: Config) -> Checkpoint:
    """Return the checkpoint with its spec: its own, or for bare weights the configuration's.

    Warns where the configuration contradicts the checkpoint.
    """
    stated = config.model.options(stated_only=True)
    if checkpoint.spec is not None:
        unsaid = {"schedule": "ddpm", "network": "unet", "learned_variance": False}
        saved = {**unsaid, **checkpoint.spec.to_config()}
        for name, value in stated.items():
            if value != saved.get(name, value):
                warnings.warn(
                    f"the file says {name} = {value}, but {checkpoint.source} was trained with "
                    f"{saved[name]}: the checkpoint's value is used",
                    stacklevel=3,
                )
        return checkpoint
    if not stated:
        raise InputError(
            f"{checkpoint.source} holds weights but not the model's configuration: describe the model under "
            "`model` in the file, as it was trained"
        )
    known = {"num_classes": checkpoint.num_classes} if checkpoint.num_classes is not None else {}
    return replace(checkpoint, spec=ModelSpec.from_config({**config.model.options(), **known}))


def provenance(config: Config, sampler: DiffusionSampler, checkpoint_digest: str) -> dict[str, str]:
    """Return the texts that all images of a configuration carry: how ``snowmelt inspect`` knows them."""
    return {
        "plan": sampler.plan.name,
        "checkpoint_digest": checkpoint_digest,
        "arguments": shlex.join(_arguments(config, sampler)),
    }


def _arguments(config: Config, sampler: DiffusionSampler) -> list[str]:
    """Return the overrides that make an image of this job again, without its class and seed."""
    left_out = {
        "num_samples",
        "class_selection",
        "class_counts",
        "balance_to",
        "seeds",
        "batch_size",
        "memory_share",
    }
    sampling = config.generation.sampling.model_dump(mode="json", exclude_unset=True, exclude=left_out)
    sampling["micro_batch"] = sampler.micro_batch
    values = {
        "generation.checkpoint": config.generation.checkpoint,
        "compute.device": sampler.model.device.type,
        "compute.precision": sampler.precision,
        **{f"generation.sampling.{name}": value for name, value in sampling.items() if value is not None},
    }
    if model := config.model.model_dump(mode="json", exclude_unset=True):
        values["model"] = model
    return [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()
    ]
