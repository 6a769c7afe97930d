"""A whole training run, as a configuration describes it: data, model, optimizer, trainer, files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from snowmelt.config import Config, resolve_output_path, save_config
from snowmelt.data import DiffusionDataLoader
from snowmelt.differences import differences
from snowmelt.errors import InputError
from snowmelt.models import create_ddpm, create_model
from snowmelt.sampling import DiffusionSampler
from snowmelt.training.logger import DiffusionLogger
from snowmelt.training.optimizers import make_optimizer, make_scheduler
from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["TrainingRun"]

LIBRARIES = ("accelerate", "matplotlib", "tensorboard")  # sampling does without them
# What the states of optimizer and schedule bring along, by torch's names
RESUMED = ("learning_rate", "betas", "momentum", "weight_decay", "T_max", "total_iters", "eta_min")

Measure = Callable[[DiffusionSampler], Mapping[str, float]]


class TrainingRun:
    """What `snowmelt train` does.

    Args:
        config: what to train, on what, and how.
        device: where.
        evaluation: makes the function that measures generated images while training; None measures nothing.
        maximize: whether more of `training.validation.metric` is better.

    Attributes:
        trainer: made by the first access, and resumed if the configuration says so.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device,
        evaluation: Callable[[], Measure] | None = None,
        *,
        maximize: bool = False,
    ) -> None:
        self.config = config
        self.device = device
        self.evaluation = evaluation
        self.maximize = maximize

    def check(self) -> None:
        """Do all that can fail before any work is done: open the data, build the model, read the checkpoint.

        Raises:
            InputError: something is missing or does not fit; the message says what to change.
        """
        for library in LIBRARIES:
            if find_spec(library) is None:
                raise InputError(f"training needs {library}: pip install 'snowmelt[train]'")
        trainer = self.trainer
        if self.config.training.resume.enabled:
            print(f"Resumed from {self._checkpoint} after {trainer.epoch} epochs")

    def run(self) -> Path:
        """Train, and return the folder of the checkpoints."""
        config, training, trainer = self.config, self.config.training, self.trainer
        folder = resolve_output_path(config, "checkpoints")
        save_config(config, resolve_output_path(config, "logs") / "config.yaml")
        parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
        print(f"Training {parameters:,} parameters on {trainer.dataloader.num_train_images:,} images")
        with self.logger as logger:
            logger.log_hyperparameters(config.model_dump(mode="json"))
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
                    maximize=self.maximize,
                )
            finally:
                logger.plot_losses()
        print(f"Saved checkpoints to: {folder}")
        return folder

    @cached_property
    def logger(self) -> DiffusionLogger:
        """Where metrics and pictures go."""
        return DiffusionLogger(
            resolve_output_path(self.config, "logs"), samples_dir=resolve_output_path(self.config, "samples")
        )

    @cached_property
    def trainer(self) -> DiffusionTrainer:
        """The trainer that the configuration describes."""
        config, training = self.config, self.config.training
        torch.manual_seed(config.compute.seed)
        torch.backends.cuda.matmul.allow_tf32 = training.performance.use_tf32
        torch.backends.cudnn.allow_tf32 = training.performance.use_tf32
        torch.backends.cudnn.benchmark = training.performance.cudnn_benchmark

        data = _dataloader(config)
        options = {**config.model.options(), "device": self.device}
        model = create_model(**options) if "schedule" in options else create_ddpm(**options)
        if model.num_classes is not None and data.num_classes > model.num_classes:
            raise InputError(
                f"model.conditioning.num_classes is {model.num_classes}, but {config.data.paths.train} has "
                f"{data.num_classes} classes: set it to {data.num_classes}"
            )
        if training.performance.compile_model:
            model.get_submodule("network").compile()
        optimizer = make_optimizer(
            training.optimizer.type,
            model.parameters(),
            training.optimizer.learning_rate,
            training.optimizer.betas,
            training.optimizer.weight_decay,
        )
        schedule = training.scheduler
        epochs = schedule.T_max if isinstance(schedule.T_max, int) else training.epochs
        trainer = DiffusionTrainer(
            model,
            data,
            optimizer,
            self.logger,
            self.device,
            show_progress=True,
            use_ema=training.ema.enabled,
            ema_decay=training.ema.decay,
            use_amp=training.performance.use_amp,
            gradient_clip_norm=training.optimizer.gradient_clip_norm,
            sample_images=training.visualization.enabled,
            sample_interval=training.visualization.interval,
            samples_per_class=max(1, training.visualization.num_samples // (model.num_classes or 1)),
            guidance_scale=training.visualization.guidance_scale,
            scheduler=make_scheduler(schedule.type, optimizer, epochs, schedule.eta_min),
            evaluate=self.evaluation() if self.evaluation is not None else None,
            config=config.model_dump(mode="json"),
        )
        if training.resume.enabled:
            self._resume(trainer)
        return trainer

    @property
    def _checkpoint(self) -> Path:
        latest = resolve_output_path(self.config, "checkpoints") / "latest.pth"
        return Path(self.config.training.resume.checkpoint or latest)

    def _resume(self, trainer: DiffusionTrainer) -> None:
        resume, stated = self.config.training.resume, _settings(trainer)
        trainer.load_checkpoint(
            self._checkpoint, reset_optimizer=resume.reset_optimizer, reset_scheduler=resume.reset_scheduler
        )
        if lines := differences(_settings(trainer), stated):
            warnings.warn(
                f"{self._checkpoint} goes on with its own settings ({'; '.join(lines)}): to take this run's, "
                "set training.resume.reset_optimizer or reset_scheduler to true",
                stacklevel=2,
            )


def _dataloader(config: Config) -> DiffusionDataLoader:
    """Return the data that `config.data` describes, in the shape of `config.model`."""
    data, architecture = config.data, config.model.architecture
    if data.paths.train is None:
        raise InputError("data.paths.train is needed: a folder of images, or a data set such as digits")
    jitter = data.augmentation.color_jitter
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
        horizontal_flip=data.augmentation.horizontal_flip,
        rotation_degrees=data.augmentation.rotation_degrees,
        color_jitter=jitter.strength if jitter.enabled else None,
        seed=config.compute.seed,
    )


def _settings(trainer: DiffusionTrainer) -> dict[str, Any]:
    """Return those settings that resuming takes from the checkpoint and not from the file."""
    group = trainer.optimizer.param_groups[0]
    schedule = trainer.scheduler.state_dict() if trainer.scheduler is not None else {}
    known = {**group, **schedule, "learning_rate": group.get("initial_lr", group["lr"])}
    return {name: known[name] for name in RESUMED if name in known}
