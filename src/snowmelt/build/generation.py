"""Generation mode: a checkpoint in, pictures out. No optimizer, no data, no trainer.

The network is rebuilt from the checkpoint alone; the file's `model` section is needed only for weights
that come without their configuration. `snowmelt.config.save_config` writes what was asked for beside the
pictures.
"""

from __future__ import annotations

import json
import shlex
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from snowmelt._version import __version__
from snowmelt.build.device import resolve_device
from snowmelt.build.guidance import build_guidance, check_guidance, describe_guidance
from snowmelt.build.plans import read_plan
from snowmelt.build.selection import choose_images
from snowmelt.config import Config, resolve_output_path, save_config
from snowmelt.config.schema import Sampling
from snowmelt.core import NoiseSchedule
from snowmelt.denoisers import DDPMModel, create_ddpm
from snowmelt.denoisers.guidance import Guidance
from snowmelt.errors import InputError
from snowmelt.formats import GRID_NAME, WRITERS
from snowmelt.generation.job import Estimate, Images, Job, auto_shard_size, grid_step
from snowmelt.generation.manifest import file_hash
from snowmelt.generation.team import ALONE, Team, join_team
from snowmelt.models.checkpoint import blamed_on, load_weights, read_checkpoint
from snowmelt.models.ema import EMA
from snowmelt.sampling import DiffusionSampler

__all__ = ["build_job", "build_sampler", "prepare_generation"]


def build_sampler(config: Config, *, local_rank: int = 0, quiet: bool = False) -> DiffusionSampler:
    """Return the sampler that `config.generation` describes, with the checkpoint's weights.

    Args:
        config: in mode ``generate``.
        local_rank: which of the machine's devices, where there are several of the kind.
        quiet: show nothing but warnings.

    Warns where the file contradicts the checkpoint, and where EMA weights are asked for and absent.
    """
    path = Path(config.generation.checkpoint or "")
    device = resolve_device(config.compute.device, local_rank)
    if not quiet:
        print(f"Loading checkpoint: {path}")
    checkpoint = read_checkpoint(path)
    model = _model(config, checkpoint, path)
    load_weights(model, checkpoint["model_state_dict"], source=path)

    ema = None
    if config.generation.sampling.use_ema:
        if "ema_state_dict" in checkpoint:
            ema = EMA(model.to(device), device=device)
            with blamed_on(path):
                ema.load_state_dict(checkpoint["ema_state_dict"])
            if not quiet:
                print("Loaded EMA weights from checkpoint")
        else:
            warnings.warn(
                f"use_ema=True but checkpoint {path} has no EMA weights: falling back to standard model "
                "weights. Train with training.ema.enabled: true, or set generation.sampling.use_ema: false",
                stacklevel=2,
            )
    sampling = config.generation.sampling
    threshold: Any = None if sampling.threshold == "none" else sampling.threshold
    if "threshold" not in sampling.model_fields_set:
        threshold = checkpoint.get("sampling", {}).get("threshold", threshold)
    method = _method(sampling, model.schedule)
    micro_batch = None if sampling.micro_batch == "auto" else sampling.micro_batch
    guidance = build_guidance(sampling)
    _check_weaker(guidance, model)
    return DiffusionSampler(
        model,
        device,
        ema,
        guidance=guidance,
        threshold=threshold,
        micro_batch=micro_batch,
        memory_share=sampling.memory_share,
        **method,
    )


def prepare_generation(
    config: Config, *, overwrite: bool = False, quiet: bool = False, dry_run: bool = False
) -> Callable[[], None]:
    """Check everything that can fail, and return the function that generates.

    Args:
        config: in mode ``generate``.
        overwrite: remove what another job has written in the folder.
        quiet: show nothing but warnings.
        dry_run: only say what it would take.

    Raises:
        InputError: something in the configuration, the checkpoint or the folder cannot be used.
    """
    team = join_team()
    quiet = quiet or team.rank > 0
    with warnings.catch_warnings():
        if team.rank > 0:  # the first process says it for all
            warnings.simplefilter("ignore")
        job = build_job(config, team=team, quiet=quiet)
    job.check_writable()
    if dry_run and overwrite:
        job = replace(job, writer=None)  # nothing that is there counts
    else:
        job.prepare(overwrite)

    def generate() -> None:
        if dry_run:
            report = describe(job.estimate(), job)
            if team.rank == 0:
                print(report)
            return
        if team.rank == 0:
            save_config(config, job.folder / "config.yaml")
        if not quiet:
            print(f"Generating {job.num_samples} samples with {job.sampler.plan!r}")
        job.run()
        if quiet:
            return
        if job.grid_nrow is not None:
            print(f"Saved generated grid to: {job.folder / GRID_NAME}")
        if job.writer is not None:
            print(f"Saved {job.num_samples} individual samples to: {job.folder}")

    return generate


def build_job(config: Config, *, team: Team | None = None, quiet: bool = False) -> Job:
    """Return the job that `config` describes: what `prepare_generation` checks and runs."""
    team = team or ALONE
    sampler = build_sampler(config, local_rank=team.local_rank, quiet=quiet)
    sampling, output = config.generation.sampling, config.generation.output
    checkpoint = Path(config.generation.checkpoint or "")
    labels, seeds, names = choose_images(
        config,
        sampler.model.num_classes,
        class_names(checkpoint),
        guided_by_class=sampler.guidance.needs_labels,
    )
    check_guidance(sampler, sampling.scale)
    if not output.save_individual:  # only those that the picture shows
        step = grid_step(len(seeds))
        labels, seeds = labels[::step] if labels is not None else None, seeds[::step]

    folder = resolve_output_path(config, "generated")
    shard_size = output.shard_size
    if shard_size == "auto":
        shard_size = auto_shard_size(len(seeds), sampler.micro_batch)
    files: dict[str, Any] = {
        "num_samples": len(seeds),
        "shard_size": shard_size,
        "num_classes": sampler.model.num_classes,
        "class_names": names,
    }
    checkpoint_hash = file_hash(checkpoint)
    identity = {
        "checkpoint_sha256": checkpoint_hash,
        "plan": json.loads(sampler.plan.to_json()),
        "class_counts": {str(label): count for label, count in Counter(labels or ()).items()},
        "seeds": sampling.seeds if sampling.seeds is not None else f"from compute.seed={config.compute.seed}",
        "guidance": describe_guidance(sampling),
        "guidance_scale": sampling.scale,
        "use_ema": sampling.use_ema,
        "threshold": sampler.threshold,
        "micro_batch": sampler.micro_batch,
        "device": torch.device(sampler.device).type,
        "versions": {"snowmelt": __version__, "torch": torch.__version__},
        "files": {"format": output.format, **files} if output.save_individual else None,
    }
    metadata = {
        "plan": sampler.plan.name,
        "checkpoint_sha256": checkpoint_hash,
        "arguments": shlex.join(_arguments(config, sampler)),
    }
    return Job(
        sampler,
        Images(labels, seeds, sampling.scale, sampling.use_ema, sampling.batch_size),
        WRITERS[output.format](folder, metadata=metadata, **files) if output.save_individual else None,
        folder,
        identity,
        arguments=config.model_dump(mode="json"),
        shard_size=shard_size,
        class_names=names,
        grid_nrow=output.grid_nrow if output.save_grid else None,
        team=team,
        quiet=quiet,
    )


def class_names(checkpoint: Path) -> list[str] | None:
    """Return the names of the classes that a checkpoint's model was trained on, where it knows them."""
    return read_checkpoint(checkpoint).get("class_names")


def describe(estimate: Estimate, job: Job) -> str:
    """Return what a job would take, for people."""
    done = job.num_samples - estimate.images
    lines = {
        "images": f"{estimate.images}" + (f" (and {done} that are there already)" if done else ""),
        "plan": repr(job.sampler.plan),
        "NFE": f"{estimate.nfe} an image"
        + (f", {estimate.evaluations} with those of guidance" if estimate.evaluations > estimate.nfe else ""),
        "batches": f"{estimate.batches} of at most {estimate.batch_size} images",
        "time": f"about {timedelta(seconds=round(estimate.seconds))} on {job.sampler.device}"
        + (f", {job.team.size} processes" if job.team.size > 1 else ""),
        "memory": f"about {estimate.bytes / 2**20:,.0f} MiB at the peak"
        + (", in each process" if job.team.size > 1 else ""),
        "folder": f"{job.folder}",
    }
    return "\n".join(f"{name + ':':10}{text}" for name, text in lines.items())


def _arguments(config: Config, sampler: DiffusionSampler) -> list[str]:
    """Return the overrides that make an image of this job again, but for its class and seed."""
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
        "compute.device": torch.device(sampler.device).type,
        **{f"generation.sampling.{name}": value for name, value in sampling.items() if value is not None},
    }
    if model := config.model.model_dump(mode="json", exclude_unset=True):
        values["model"] = model
    return [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()
    ]


def _check_weaker(guidance: Guidance, model: DDPMModel) -> None:
    """Refuse a second model of other images or other classes."""
    for other in guidance.networks:
        if isinstance(other, DDPMModel) and (other.image_shape, other.num_classes) != (
            model.image_shape,
            model.num_classes,
        ):
            raise InputError(
                f"generation.sampling.guidance.weak makes images {other.image_shape} of {other.num_classes} "
                f"classes, the checkpoint {model.image_shape} of {model.num_classes}: both must be alike"
            )


def _method(sampling: Sampling, schedule: NoiseSchedule) -> dict[str, Any]:
    """Return the arguments of `DiffusionSampler` that say how to sample."""
    if sampling.plan is not None:
        return {"plan": read_plan(sampling.plan, schedule)}
    if sampling.preset is not None:
        return {"preset": sampling.preset}
    return sampling.sampler.arguments()


def _model(config: Config, checkpoint: dict[str, Any], path: Path) -> DDPMModel:
    """Return the model to load: the checkpoint's own configuration, or the file's for bare weights."""
    stated = config.model.options(stated_only=True)
    if "model_config" not in checkpoint:
        if not stated:
            raise InputError(
                f"{path} holds weights but not the model's configuration: describe the model under `model` "
                "in the file, as it was trained"
            )
        return create_ddpm(**{**config.model.options(), **_known_classes(checkpoint)})
    saved = checkpoint["model_config"]
    for name, value in stated.items():
        if value != saved.get(name, value):
            warnings.warn(
                f"the file says {name} = {value}, but {path} was trained with {saved[name]}: "
                "the checkpoint's value is used",
                stacklevel=3,
            )
    with blamed_on(path):
        return create_ddpm(**saved)


def _known_classes(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return {"num_classes": checkpoint["num_classes"]} if "num_classes" in checkpoint else {}
