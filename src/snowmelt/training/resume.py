"""What a checkpoint must agree with, so that a run can go on from it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from snowmelt.differences import differences
from snowmelt.models import EMA, Checkpoint, CheckpointError, DiffusionModel, ModelSpec, load_weights
from snowmelt.models.weights import name_file_in_errors, unwrapped
from snowmelt.text import counted, some
from snowmelt.training.averages import with_options
from snowmelt.training.finite import check_checkpoint
from snowmelt.training.processes import of_all, own_stream
from snowmelt.training.saving import KINDS, LATEST, kept
from snowmelt.training.shards import divided
from snowmelt.training.state import Progress, random_state, set_random_state
from snowmelt.training.times import Times
from snowmelt.training.weightings import Weighting

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["newest_first", "read_resumable", "restore", "saved_state"]

# What decides which images a position in an epoch stands for
DATA_ORDER = ("batch_size", "num_train_images", "seed", "shuffle_train", "drop_last")
USUAL = {"weighting": asdict(Weighting()), "times": asdict(Times())}  # of a file from before it was stated


def newest_first(folder: Path) -> Iterator[Path]:
    """Yield the checkpoints of a run: the latest, then those that it has kept, last of all the best."""
    files = [path for kind in KINDS for path in kept(folder, kind)]
    yield from (path for path in (folder / LATEST, *files, folder / "best_model.pth") if path.exists())


def read_resumable(path: str | Path) -> Checkpoint:
    """Read a checkpoint whose states are finite; those of its weights and its average reading checks.

    Raises:
        CheckpointError: it cannot be read, or holds numbers that are not finite.
    """
    checkpoint = Checkpoint.read(path)
    key = "optimizer_state_dict"
    check_checkpoint({key: checkpoint.training.get(key, {})}, path)
    return checkpoint


def check_resumable(state: Mapping[str, Any], parts: Mapping[str, object], source: object) -> None:
    """Raise unless a checkpoint's training state fits this run.

    Args:
        state: what the checkpoint holds, by its keys.
        parts: what is to take its state from there: optimizer, scheduler, scaler, uncertainty, loss.
        source: the checkpoint's file, for the message.

    Raises:
        CheckpointError: something is missing, or belongs to another kind of optimizer or schedule.
    """
    learned, learns = "uncertainty_state_dict" in state, "uncertainty" in parts
    if learned != learns and {"optimizer"} <= parts.keys() and "optimizer_state_dict" in state:
        raise CheckpointError(
            f"{source} was trained {'with' if learned else 'without'} learned uncertainty: set "
            f"training.loss.uncertainty to {str(learned).lower()}, or resume with reset_optimizer"
        )
    needed = [*(f"{name}_state_dict" for name in parts), "epoch", "global_step", "rng_state"]
    missing = [key for key in needed if key not in state]
    if "optimizer_state_dict" in state:  # then its run had a constant rate or no scaler
        missing = [key for key in missing if key not in ("scheduler_state_dict", "scaler_state_dict")]
    if missing:
        raise CheckpointError(
            f"{source} cannot be resumed from: it lacks {', '.join(missing)}. It was saved without its "
            "optimizer, or not by a trainer; resume with reset_optimizer and reset_scheduler, or load "
            "its weights alone"
        )
    for name, part in parts.items():
        there, here = state.get(f"{name}_type"), kind_of(part)
        if there not in (None, here):
            raise CheckpointError(
                f"{source} was trained with the {name} {there}, this run has {here}: take the same, or "
                f"resume with reset_{name}"
            )


def check_meaning(checkpoint: Checkpoint, model: DiffusionModel, class_names: Sequence[str] | None) -> None:
    """Raise unless the checkpoint's weights mean in `model` what they meant in their own run.

    Raises:
        CheckpointError: the network, the noise schedule, the parameterization or the classes are others.
    """
    specs = [checkpoint.spec, model.spec]
    there, here = (_meaning(spec) if spec is not None else {} for spec in specs)
    if there and here and there != here:
        raise CheckpointError(
            f"{checkpoint.source} does not fit the model ({'; '.join(differences(there, here))}): "
            "its weights would mean something else. Take the settings that it was trained with, or train anew"
        )
    pairs = zip(checkpoint.class_names or (), class_names or (), strict=False)
    moved = [
        f"class {label}: {there} there, {here} now"
        for label, (there, here) in enumerate(pairs)
        if there != here
    ]
    if model.num_classes and moved:
        raise CheckpointError(
            f"{checkpoint.source} was trained on other classes ({some(moved)}): labels would mean "
            "something else. Name the folders as they were, or train anew"
        )


def kind_of(part: object) -> str:
    """Return the name of a part's class, before FSDP gave it another one."""
    return type(part).__name__.removeprefix("FSDP")


def data_order(dataloader: object, processes: int) -> dict[str, Any]:
    """Return what decides which images a position in an epoch stands for.

    The batch size is that of all processes together, which share each batch.
    """
    order = {name: getattr(dataloader, name, None) for name in DATA_ORDER}
    balance = getattr(dataloader, "balance", None)
    if balance is not None and balance.sampling != "none":
        order |= {"sampling": balance.sampling, "beta": balance.beta}
    return _of_all({**order, "processes": processes})


def _of_all(order: Mapping[str, Any]) -> dict[str, Any]:
    """Return an order in which the batch size is that of all processes; files of before state both."""
    processes = order.get("processes", 1)
    known = {name: value for name, value in order.items() if name != "processes"}
    return {**known, "batch_size": known["batch_size"] * processes}


def check_position(state: Mapping[str, Any], order: Mapping[str, Any], batches: int, source: object) -> None:
    """Raise if a checkpoint stands inside an epoch that has another order of images now.

    Args:
        state: what the checkpoint holds, by its keys.
        order: of this run, from `data_order`.
        batches: of an epoch, in this run.
        source: the checkpoint's file, for the message.

    Raises:
        CheckpointError: some images of the epoch would be seen twice, and others never.
    """
    batch = state.get("batch", 0)
    lines = differences(_of_all(state.get("data_order", order)), order)
    if batch and (lines or batch > batches):
        lines = lines or [f"{counted(batch, 'batch')} done there, {batches} in an epoch now"]
        epoch = state["epoch"]
        other = f"set training.resume.checkpoint to the file of a whole epoch, such as epoch_{epoch:04d}.pth"
        raise CheckpointError(
            f"{source} was saved inside epoch {epoch + 1}, whose images have another order now "
            f"({'; '.join(lines)}): some would be seen twice and others never. Take the same settings until "
            f"the epoch ends, or {other if epoch else 'train anew'}"
        )


def objective_of(trainer: DiffusionTrainer) -> dict[str, Any]:
    """Return what a loss is a mean of, as checkpoints hold it."""
    learned = {"uncertainty": True} if "uncertainty" in trainer.parts else {}
    return {name: asdict(part) for name, part in trainer.objective.items()} | learned


def saved_state(trainer: DiffusionTrainer, *, save_optimizer: bool) -> dict[str, Any]:
    """Return what `restore` needs beside the model and its average. All processes must call this.

    Args:
        trainer: at a position between two steps.
        save_optimizer: with the states of optimizer, learning rate schedule and loss scale.
    """
    order = data_order(trainer.dataloader, trainer.accelerator.num_processes)
    own = random_state(), trainer.progress.loss_sum.cpu()
    random_states, sums = zip(*of_all(trainer.accelerator, own), strict=True)
    state = {**trainer.progress.state_dict(), "data_order": order, "rng_state": random_states[0]}
    state |= {"objective": objective_of(trainer), "rate_start": trainer.rate.start.position}
    if len(sums) > 1:
        state |= {"loss_sum": torch.stack(sums).mean(), "loss_sums": sums, "rng_states": random_states}
    trainer.set_rate()
    if background := getattr(trainer.dataloader, "background", None):
        state["background"] = background
    if trainer.snapshots is not None:
        state["ema_tracked"] = trainer.snapshots.state_dict()
    for name, part in trainer.parts.items() if save_optimizer else ():
        state |= {f"{name}_type": kind_of(part), f"{name}_state_dict": part.state_dict()}
    return state


def parts_of(trainer: DiffusionTrainer, checkpoint: Checkpoint) -> tuple[Checkpoint, Mapping[str, Any]]:
    """Return a checkpoint with this process's parts of its tensors, and its training state."""
    there = {"weights": checkpoint.weights, "ema": checkpoint.ema, "training": checkpoint.training}
    optimizer, snapshots = trainer.optimizer, trainer.snapshots
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = checkpoint.training.get("optimizer_state_dict", {}).get("state", {})
    like = {
        "weights": unwrapped(trainer.model.state_dict()),
        "ema": trainer.ema.state_dict() if trainer.ema is not None else None,
        "training": {
            "optimizer_state_dict": {
                "state": {i: dict.fromkeys(moments.get(i, {}), p) for i, p in enumerate(parameters)}
            },
            "uncertainty_state_dict": trainer.uncertainty.state_dict() if trainer.uncertainty else None,
            "ema_tracked": snapshots.state_dict() if snapshots is not None else None,
        },
    }
    parts = divided(there, like)
    return replace(checkpoint, **parts), parts["training"]


def restore(
    trainer: DiffusionTrainer, checkpoint: Checkpoint, *, reset_optimizer: bool, reset_scheduler: bool
) -> None:
    """Do what `DiffusionTrainer.load_checkpoint` says."""
    state, path = checkpoint.training, checkpoint.source
    reset = dict.fromkeys(("optimizer", "scaler", "uncertainty", "loss"), reset_optimizer)
    reset["scheduler"] = reset_scheduler
    parts = {name: part for name, part in trainer.parts.items() if not reset[name]}
    check_resumable(state, parts, path)
    check_meaning(checkpoint, trainer.model, getattr(trainer.dataloader, "class_names", None))
    order = data_order(trainer.dataloader, trainer.accelerator.num_processes)
    check_position(state, order, trainer.dataloader.batches_per_epoch(trainer.process), path)
    if trainer.is_divided:
        checkpoint, state = parts_of(trainer, checkpoint)
    load_weights(trainer.model, checkpoint.weights, source=path)
    with name_file_in_errors(path):
        _load_averages(trainer, checkpoint)
        _load_parts(trainer, state, parts)
        _load_position(trainer, state, reset_scheduler=reset_scheduler)
    if trainer.logger is not None:
        trainer.logger.rewind(trainer.global_step)
    _load_random(trainer, state)


def _load_averages(trainer: DiffusionTrainer, checkpoint: Checkpoint) -> None:
    """Take the averages of a checkpoint; where it has none, they begin at its weights."""
    path, tracked = checkpoint.source, checkpoint.training.get("ema_tracked")
    if trainer.ema is not None and checkpoint.ema is None:
        warnings.warn(f"{path} holds no EMA weights: the average starts from its weights", stacklevel=4)
        old = trainer.ema
        trainer.ema = trainer.sampler.ema = EMA(trainer.model, old.decay, warmup=True, width=old.width)
    elif trainer.ema is not None and checkpoint.ema is not None:
        profile = trainer.ema.decay, trainer.ema.width
        trainer.ema.load_state_dict(checkpoint.ema)
        trainer.ema.decay, trainer.ema.width = profile
    if trainer.snapshots is not None and tracked is not None:
        trainer.snapshots.load_state_dict(tracked)
    elif trainer.snapshots is not None:
        warnings.warn(f"{path} holds no tracked averages: those of snapshots begin here", stacklevel=4)


def _load_parts(trainer: DiffusionTrainer, state: Mapping[str, Any], parts: Mapping[str, object]) -> None:
    """Take the states of optimizer, uncertainty, loss and loss scale, where they are not reset."""
    if "optimizer" in parts:
        moments = state["optimizer_state_dict"]
        trainer.optimizer.load_state_dict(with_options(trainer.optimizer, moments))
    for name in parts.keys() & {"uncertainty", "loss"}:
        trainer.parts[name].load_state_dict(state[f"{name}_state_dict"])
    if "scaler" in parts and "scaler_state_dict" in state:
        trainer.accelerator.scaler.load_state_dict(state["scaler_state_dict"])


def _load_position(trainer: DiffusionTrainer, state: Mapping[str, Any], *, reset_scheduler: bool) -> None:
    """Go to the position of a checkpoint, and to the learning rate that this run has there."""
    done = trainer.progress
    done.load_state_dict({"precision": "fp32", **state})  # of an older file
    if "images" not in state:  # a file from before images were counted
        a_batch = trainer.dataloader.batch_size * trainer.accelerator.num_processes
        done.images = trainer.an_epoch.images * done.epoch + a_batch * done.batch
    # A file from before schedules were read in each step has `warmup_start` instead
    start = state.get("rate_start", {"images": state.get("warmup_start", 0)})
    trainer.rate.start = Progress(**(done.position if reset_scheduler else start))
    position = state.get("scheduler_state_dict", {}).get("last_epoch", done.epoch)
    trainer.rate.go_to(0 if reset_scheduler else position)
    trainer.set_rate()
    if done.watched == "loss" and state.get("objective", USUAL) != objective_of(trainer):
        done.watched = ""  # the best one is yet to come: two objectives do not compare


def _load_random(trainer: DiffusionTrainer, state: Mapping[str, Any]) -> None:
    """Take the states of the random generators; with another number of processes, streams begin anew."""
    states, rank = state.get("rng_states", [state["rng_state"]]), trainer.accelerator.process_index
    if len(states) == trainer.accelerator.num_processes:
        set_random_state(states[rank])
        trainer.progress.loss_sum = state.get("loss_sums", [trainer.progress.loss_sum])[rank]
    else:
        set_random_state(states[0])
        own_stream(trainer.accelerator, trainer.global_step)


def _meaning(spec: ModelSpec) -> dict[str, Any]:
    """Return what a model's weights mean, with all defaults filled in."""
    with torch.device("meta"):  # the same network without memory
        options = spec.make_network().config
    schedule = spec.make_schedule()
    t = torch.linspace(0.0, 1.0, 5, dtype=torch.float64)
    levels = [[round(float(number), 9) for number in numbers] for numbers in schedule(t)[1:]]
    return {
        # Dropout acts while training only: weights mean the same with any
        **{name: value for name, value in options.items() if name not in ("dropout", "out_channels")},
        "network": spec.network,
        "parameterization": spec.parameterization,
        "schedule": spec.schedule,
        "num_timesteps": schedule.num_timesteps,
        "levels": levels,
    }
