"""Training mode: data, model, optimizer, trainer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler

from snowmelt.build.device import resolve_device
from snowmelt.build.model import model_options
from snowmelt.config import Config, resolve_output_path, save_config
from snowmelt.data import DiffusionDataLoader
from snowmelt.denoisers import create_ddpm
from snowmelt.differences import differences
from snowmelt.errors import InputError
from snowmelt.sampling import DiffusionSampler
from snowmelt.training import DiffusionLogger, DiffusionTrainer

__all__ = ["build_dataloader", "build_trainer", "prepare_training"]

LIBRARIES = ("accelerate", "matplotlib", "tensorboard")  # sampling does without them
# What the states of optimizer and schedule bring along, by torch's names
KEPT = ("learning_rate", "betas", "momentum", "weight_decay", "T_max", "total_iters", "eta_min")
MORE_IS_BETTER = frozenset({"inception_score", "precision", "recall", "density", "coverage"})


def build_dataloader(config: Config) -> DiffusionDataLoader:
    """Return the data that `config.data` describes, in the shape of `config.model`."""
    data, architecture = config.data, config.model.architecture
    if data.paths.train is None:
        raise InputError("data.paths.train is needed: a folder of images, or a data set such as digits")
    augmentation = data.augmentation
    jitter = augmentation.color_jitter
    return DiffusionDataLoader(
        data.paths.train,
        data.paths.val if config.training.validation.enabled else None,
        image_size=architecture.image_size,
        in_channels=architecture.in_channels,
        batch_size=data.loading.batch_size,
        num_workers=data.loading.num_workers,
        pin_memory=data.loading.pin_memory,
        shuffle_train=data.loading.shuffle_train,
        drop_last=data.loading.drop_last,
        horizontal_flip=augmentation.horizontal_flip,
        rotation_degrees=augmentation.rotation_degrees,
        color_jitter=jitter.strength if jitter.enabled else None,
        seed=config.compute.seed,
    )


def build_optimizer(config: Config, parameters: Iterable[Parameter]) -> Optimizer:
    """Return the optimizer that `config.training.optimizer` describes."""
    options = config.training.optimizer
    rate, decay, betas = options.learning_rate, options.weight_decay, options.betas
    if options.type == "sgd":
        return SGD(parameters, rate, momentum=betas[0], weight_decay=decay)
    return (AdamW if options.type == "adamw" else Adam)(parameters, rate, betas, weight_decay=decay)


def build_scheduler(config: Config, optimizer: Optimizer) -> LRScheduler | None:
    """Return the learning rate schedule over epochs; None for a constant rate."""
    options = config.training.scheduler
    epochs = options.T_max if isinstance(options.T_max, int) else config.training.epochs
    if options.type == "cosine":
        return CosineAnnealingLR(optimizer, T_max=epochs, eta_min=options.eta_min)
    if options.type == "linear":
        end = options.eta_min / config.training.optimizer.learning_rate
        return LinearLR(optimizer, start_factor=1.0, end_factor=end, total_iters=epochs)
    return None


def build_trainer(config: Config) -> DiffusionTrainer:
    """Return the trainer that `config` describes, resumed if it says so."""
    for library in LIBRARIES:
        if find_spec(library) is None:
            raise InputError(f"training needs {library}: pip install 'snowmelt[train]'")
    training, performance = config.training, config.training.performance
    device = resolve_device(config.compute.device)
    torch.manual_seed(config.compute.seed)
    torch.backends.cuda.matmul.allow_tf32 = performance.use_tf32
    torch.backends.cudnn.allow_tf32 = performance.use_tf32
    torch.backends.cudnn.benchmark = performance.cudnn_benchmark

    dataloader = build_dataloader(config)
    model = create_ddpm(**model_options(config), device=device)
    if model.num_classes is not None and dataloader.num_classes > model.num_classes:
        raise InputError(
            f"model.conditioning.num_classes is {model.num_classes}, but {config.data.paths.train} has "
            f"{dataloader.num_classes} classes: set it to {dataloader.num_classes}"
        )
    if performance.compile_model:
        model.network.compile()
    optimizer = build_optimizer(config, model.parameters())
    visualization = training.visualization
    images_per_grid = visualization.num_samples // (model.num_classes or 1)
    trainer = DiffusionTrainer(
        model,
        dataloader,
        optimizer,
        DiffusionLogger(
            resolve_output_path(config, "logs"), samples_dir=resolve_output_path(config, "samples")
        ),
        device,
        show_progress=True,
        use_ema=training.ema.enabled,
        ema_decay=training.ema.decay,
        use_amp=performance.use_amp,
        gradient_clip_norm=training.optimizer.gradient_clip_norm,
        sample_images=visualization.enabled,
        sample_interval=visualization.interval,
        samples_per_class=max(1, images_per_grid),
        guidance_scale=visualization.guidance_scale,
        scheduler=build_scheduler(config, optimizer),
        evaluate=_evaluation(config),
        config=config.model_dump(mode="json"),
    )
    resume = training.resume
    if resume.enabled:
        path = Path(resume.checkpoint or resolve_output_path(config, "checkpoints") / "latest.pth")
        stated = _settings(trainer)
        trainer.load_checkpoint(
            path, reset_optimizer=resume.reset_optimizer, reset_scheduler=resume.reset_scheduler
        )
        if lines := differences(_settings(trainer), stated):
            warnings.warn(
                f"{path} goes on with its own settings ({'; '.join(lines)}): to take this run's, set "
                "training.resume.reset_optimizer or reset_scheduler to true",
                stacklevel=2,
            )
        print(f"Resumed from {path} after {trainer.epoch} epochs")
    return trainer


def _settings(trainer: DiffusionTrainer) -> dict[str, Any]:
    """Return those settings that resuming takes from the checkpoint, whatever the file says."""
    group = trainer.optimizer.param_groups[0]
    schedule = trainer.scheduler.state_dict() if trainer.scheduler is not None else {}
    known = {**group, **schedule, "learning_rate": group.get("initial_lr", group["lr"])}
    return {name: known[name] for name in KEPT if name in known}


def _evaluation(config: Config) -> Callable[[DiffusionSampler], dict[str, float]] | None:
    if not config.training.evaluation.enabled:
        return None
    from snowmelt.build.evaluation import training_evaluation  # its libraries are not needed otherwise

    return training_evaluation(config)


def prepare_training(config: Config) -> Callable[[], Path]:
    """Check everything that can fail early, and return the function that trains.

    That function returns the folder of the checkpoints.
    """
    trainer = build_trainer(config)
    training = config.training
    folder = resolve_output_path(config, "checkpoints")
    logs = resolve_output_path(config, "logs")

    def train() -> Path:
        save_config(config, logs / "config.yaml")
        logger = trainer.logger
        if logger is not None:
            logger.log_hyperparameters(config.model_dump(mode="json"))
        parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
        print(f"Training {parameters:,} parameters on {trainer.dataloader.num_train_images:,} images")
        try:
            trainer.train(
                training.epochs,
                folder,
                save_frequency=training.checkpointing.save_frequency,
                save_best_only=training.checkpointing.save_best_only,
                save_optimizer=training.checkpointing.save_optimizer,
                validate_frequency=training.validation.frequency if training.validation.enabled else None,
                evaluate_frequency=training.evaluation.frequency if training.evaluation.enabled else None,
                watch=training.validation.metric,
                maximize=training.validation.metric in MORE_IS_BETTER,
            )
        finally:
            if logger is not None:
                logger.plot_losses()
                logger.close()
        print(f"Saved checkpoints to: {folder}")
        return folder

    return train
