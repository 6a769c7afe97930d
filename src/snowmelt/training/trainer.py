"""The trainer of diffusion models. It trains; pictures are `snowmelt.DiffusionSampler`'s work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from snowmelt._version import __version__
from snowmelt.data import DiffusionDataLoader
from snowmelt.denoisers import DDPMModel
from snowmelt.models.checkpoint import (
    CheckpointError,
    blamed_on,
    load_weights,
    read_checkpoint,
    save_checkpoint,
)
from snowmelt.models.ema import EMA
from snowmelt.progress import progress
from snowmelt.sampling import DiffusionSampler, image_seeds
from snowmelt.training.base import BaseTrainer
from snowmelt.training.logger import DiffusionLogger
from snowmelt.training.loss import denoising_loss, drop_labels

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["DiffusionTrainer"]

STEPS_BETWEEN_LOSS_DISPLAYS = 20  # showing the loss waits for the device
SECONDS_BEFORE_A_BATCH_BAR = 5.0  # short epochs need no bar of their own


class DiffusionTrainer(BaseTrainer):
    """Trains a `DDPMModel`. For inference, use `snowmelt.DiffusionSampler` directly.

    Resuming is exact: on the same machine, a run that was stopped and resumed ends with the same bits as
    one that was not. Checkpoints hold weights, EMA, optimizer, learning rate schedule, the position in the
    epoch and the state of the random generators; the order of the data follows from seed and epoch.

    Args:
        model: what to train; moved to `device`.
        dataloader: training and, if it has some, validation data.
        optimizer: over the model's parameters.
        logger: where metrics and sample grids go; None keeps no record.
        device: ``"cpu"``, ``"cuda"``, ...; with several processes, Accelerate gives each its own.
        show_progress: show a bar over the epochs, and one over the batches of long ones.
        use_ema: keep an exponential moving average of the weights.
        ema_decay: its decay, in (0, 1); warmed up over the first steps.
        use_amp: mixed precision on CUDA (bfloat16 where the device has it, else float16). On the CPU it would
            be slower than float32, so there a warning says that it is left out.
        gradient_clip_norm: largest norm of the gradient; None does not clip.
        sample_images: log a grid of samples every `sample_interval` epochs.
        sample_interval: in epochs, >= 1.
        samples_per_class: images a class in such a grid (in all, for an unconditional model).
        guidance_scale: of those images.
        scheduler: learning rate schedule, stepped once an epoch.
        sampler: makes the grids; None takes 50 deterministic DDIM steps.
        evaluate: what `train` calls with the sampler every `evaluate_frequency` epochs: metrics of the images
            that it makes, by name. It must leave torch's global generator alone, or resuming is not exact.
        config: kept in checkpoints, for people to read.

    Attributes:
        sampler: a `DiffusionSampler` that shares the model and the EMA.
        ema: the EMA, or None.
        global_step: optimizer steps so far.

    >>> from snowmelt import DiffusionDataLoader, DiffusionTrainer, create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32, num_classes=10)
    >>> data = DiffusionDataLoader("digits", image_size=8, in_channels=1, batch_size=512)
    >>> trainer = DiffusionTrainer(model, data, torch.optim.AdamW(model.parameters(), lr=1e-3))
    >>> metrics = trainer.train(num_epochs=1)
    >>> sorted(metrics)
    ['train_loss']
    >>> trainer.sampler.sample(num_samples=2).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        model: DDPMModel,
        dataloader: DiffusionDataLoader,
        optimizer: Optimizer,
        logger: DiffusionLogger | None = None,
        device: str | torch.device = "cpu",
        show_progress: bool = False,
        use_ema: bool = True,
        ema_decay: float = 0.9999,
        use_amp: bool = False,
        gradient_clip_norm: float | None = None,
        sample_images: bool = False,
        sample_interval: int = 1,
        samples_per_class: int = 2,
        guidance_scale: float = 0.0,
        *,
        scheduler: LRScheduler | None = None,
        sampler: DiffusionSampler | None = None,
        evaluate: Callable[[DiffusionSampler], Mapping[str, float]] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.accelerator = _accelerator(device, use_amp)
        self.show_progress = show_progress and self.accelerator.is_main_process
        self.device = device
        self.model = model.to(self.accelerator.device)
        self.dataloader = dataloader
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.logger = logger
        self.gradient_clip_norm = gradient_clip_norm
        self.sample_images = sample_images
        self.sample_interval = sample_interval
        self.samples_per_class = samples_per_class
        self.guidance_scale = guidance_scale
        self.evaluate = evaluate
        self.config = dict(config) if config is not None else None

        self.ema = EMA(model, ema_decay, warmup=True) if use_ema else None
        steps = min(50, model.schedule.num_timesteps)
        self.sampler = sampler or DiffusionSampler(model, device, self.ema, solver="ddim", steps=steps)
        self.sampler.ema = self.ema

        # The network alone is wrapped for several processes: the model around it is a denoiser, and
        # training asks for the network's own output
        self._network, self._optimizer = self.accelerator.prepare(model.network, optimizer)
        self.global_step = 0
        self._batch = 0  # batches done in the epoch at hand
        self._loss_sum = torch.zeros((), device=self.accelerator.device)

    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch, or for what a resumed checkpoint left of it, and return the mean loss."""
        self.model.train()
        process = (self.accelerator.process_index, self.accelerator.num_processes)
        bar = progress(
            self.dataloader.train_loader(self.epoch, self._batch, process),
            f"Epoch {self.epoch + 1}",
            show=self.show_progress,
            total=self.dataloader.batches_per_epoch(process),
            initial=self._batch,
            unit="batch",
            leave=False,
            delay=SECONDS_BEFORE_A_BATCH_BAR,
        )
        for x0, class_labels in bar:
            self._loss_sum += self._train_step(x0, class_labels)
            self._batch += 1
            if self._batch % STEPS_BETWEEN_LOSS_DISPLAYS == 0 and not bar.disable:
                bar.set_postfix(loss=f"{self._loss_sum.item() / self._batch:.4f}", refresh=False)
            self.interrupt.raise_if_requested()
        mean_loss = self.accelerator.reduce(self._loss_sum, "mean").item() / self._batch
        if self.scheduler is not None:
            self.scheduler.step()
        self.epoch += 1
        self._batch = 0
        self._loss_sum.zero_()
        return {"loss": mean_loss}

    def _train_step(self, x0: Tensor, class_labels: Tensor) -> Tensor:
        """Take one optimizer step and return the loss, detached, without waiting for the device."""
        loss = self._loss(x0, class_labels, self.model.class_dropout_prob)
        self._optimizer.zero_grad()
        self.accelerator.backward(loss)
        if self.gradient_clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.gradient_clip_norm)
        self._optimizer.step()
        if self.ema is not None:
            self.ema.update()
        self.global_step += 1
        return loss.detach()

    def _loss(
        self,
        x0: Tensor,
        class_labels: Tensor,
        class_dropout_prob: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        device, null_class = self.accelerator.device, self.model.null_class
        x0, class_labels = (batch.to(device, non_blocking=True) for batch in (x0, class_labels))
        labels = class_labels if self.model.num_classes else None
        if labels is not None and null_class is not None:
            labels = drop_labels(labels, null_class, class_dropout_prob)
        with self.accelerator.autocast():
            return denoising_loss(
                self._network, self.model.schedule, self.model.parameterization, x0, labels, generator
            )

    @torch.no_grad()
    def validate_epoch(self) -> dict[str, float]:
        """Return the mean loss over the validation data, with the same noise every time; empty without data.

        The EMA weights are measured where there are some: they are what samples are made with.
        """
        loader = self.dataloader.val_loader()
        if loader is None:
            return {}
        generator = torch.Generator().manual_seed(0)
        one = torch.ones((), device=self.accelerator.device)
        total = torch.zeros(2, device=self.accelerator.device)  # of losses, of images
        self.model.eval()
        with self._averaged():
            for x0, class_labels in loader:
                total += torch.stack([self._loss(x0, class_labels, generator=generator), one]) * len(x0)
        loss_sum, count = total.tolist()
        return {"loss": loss_sum / count}

    def evaluate_epoch(self) -> dict[str, float]:
        """Return the metrics of generated images, in the first process alone; empty without `evaluate`."""
        if self.evaluate is None or not self.accelerator.is_main_process:
            return {}
        return dict(self.evaluate(self.sampler))

    def end_epoch(self, metrics: Mapping[str, float]) -> None:
        """Log the epoch's metrics and, every `sample_interval` epochs, a grid of samples."""
        if self.logger is None or not self.accelerator.is_main_process:
            return
        learning_rate = self.optimizer.param_groups[0]["lr"]
        self.logger.log_metrics(
            {**metrics, "learning_rate": learning_rate}, step=self.global_step, epoch=self.epoch
        )
        if self.sample_images and self.epoch % self.sample_interval == 0:
            self._generate_samples(self.logger)

    def _generate_samples(self, logger: DiffusionLogger) -> None:
        """Log a grid of samples and how the first ones came about, with the same seeds every time."""
        num_classes = self.model.num_classes
        labels = None
        if num_classes is not None:
            labels = [label for label in range(num_classes) for _ in range(self.samples_per_class)]
        count = len(labels) if labels is not None else self.samples_per_class
        scale = self.guidance_scale if labels is not None else 0.0
        states = list(self.sampler.trajectory(count, labels, scale, seeds=image_seeds(0, count)))
        logger.log_images(states[-1].x_t.clamp(-1, 1), "samples", self.global_step, class_labels=labels)
        chosen = states[:: max(1, len(states) // 8)]
        shown = [state.x_t[:8] for state in (*chosen, states[-1])]
        logger.log_film_strip(shown, "denoising", self.global_step)

    def save_checkpoint(self, path: str | Path, *, save_optimizer: bool = True) -> None:
        """Write model, EMA, optimizer, position and random state to `path`, whole or not at all."""
        if not self.accelerator.is_main_process:
            return
        checkpoint: dict[str, Any] = {
            "snowmelt_version": __version__,
            "model_config": self.model.config,
            "model_state_dict": self.model.state_dict(),
            "num_classes": self.model.num_classes,
            "epoch": self.epoch,
            "batch": self._batch,
            "loss_sum": self._loss_sum,
            "global_step": self.global_step,
            "watched": self.watched,
            "best_metric": self.best_metric,
            "rng_state": _rng_state(),
        }
        if self.ema is not None:
            checkpoint["ema_state_dict"] = self.ema.state_dict()
        if save_optimizer:
            checkpoint["optimizer_type"] = type(self.optimizer).__name__
            checkpoint["optimizer_state_dict"] = self.optimizer.state_dict()
            if self.scheduler is not None:
                checkpoint["scheduler_type"] = type(self.scheduler).__name__
                checkpoint["scheduler_state_dict"] = self.scheduler.state_dict()
            if self.accelerator.scaler is not None:
                checkpoint["scaler_state_dict"] = self.accelerator.scaler.state_dict()
        if (class_names := getattr(self.dataloader, "class_names", None)) is not None:
            checkpoint["class_names"] = list(class_names)
        if self.config is not None:
            checkpoint["config"] = self.config
        save_checkpoint(checkpoint, path)

    def load_checkpoint(
        self, path: str | Path, *, reset_optimizer: bool = False, reset_scheduler: bool = False
    ) -> None:
        """Go on from a checkpoint.

        Args:
            path: what `save_checkpoint` wrote.
            reset_optimizer: keep this trainer's fresh optimizer instead of the checkpoint's.
            reset_scheduler: the same for the learning rate schedule.

        Raises:
            CheckpointError: the file cannot be read, does not fit the model, or holds no state of this
                optimizer or schedule where it is wanted. The trainer is as it was before.
        """
        checkpoint = read_checkpoint(path)
        wanted: dict[str, Any] = {"optimizer_state_dict": self.optimizer} if not reset_optimizer else {}
        if self.scheduler is not None and not reset_scheduler:
            wanted["scheduler_state_dict"] = self.scheduler
        if self.accelerator.scaler is not None and not reset_optimizer:
            wanted["scaler_state_dict"] = self.accelerator.scaler
        missing = [key for key in (*wanted, "epoch", "global_step", "rng_state") if key not in checkpoint]
        if missing:
            raise CheckpointError(
                f"{path} cannot be resumed from: it lacks {', '.join(missing)}. It was saved without its "
                "optimizer, or not by a trainer; resume with reset_optimizer and reset_scheduler, or load "
                "its weights alone"
            )
        for name in ("optimizer", "scheduler"):
            there, here = checkpoint.get(f"{name}_type"), type(getattr(self, name)).__name__
            if f"{name}_state_dict" in wanted and there not in (None, here):
                raise CheckpointError(
                    f"{path} was trained with the {name} {there}, this run has {here}: take the same, or "
                    f"resume with reset_{name}"
                )
        load_weights(self.model, checkpoint["model_state_dict"], source=path)
        if self.ema is not None and "ema_state_dict" in checkpoint:
            with blamed_on(path):
                self.ema.load_state_dict(checkpoint["ema_state_dict"])
        elif self.ema is not None:
            warnings.warn(
                f"{path} holds no EMA weights: the average starts anew from its weights", stacklevel=2
            )
            self.ema = EMA(self.model, self.ema.decay, warmup=True)
            self.sampler.ema = self.ema
        for key, part in wanted.items():
            part.load_state_dict(checkpoint[key])
        self.epoch = checkpoint["epoch"]
        self._batch = checkpoint.get("batch", 0)
        self._loss_sum.copy_(checkpoint.get("loss_sum", torch.zeros(())))
        self.global_step = checkpoint["global_step"]
        self.watched = checkpoint.get("watched", "loss")
        self.best_metric = checkpoint.get("best_metric", self.best_metric)
        if self.logger is not None:
            self.logger.rewind(self.global_step)
        _set_rng_state(checkpoint["rng_state"])

    def _averaged(self) -> AbstractContextManager[None]:
        return self.ema.applied() if self.ema is not None else nullcontext()


def _accelerator(device: str | torch.device, use_amp: bool) -> Accelerator:
    from accelerate import Accelerator

    device = torch.device(device)
    precision = "no"
    if use_amp and device.type == "cuda":
        precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    elif use_amp:
        warnings.warn(
            f"use_amp is left out on {device.type}: mixed precision is slower than float32 there",
            stacklevel=3,
        )
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {str(device)!r} was asked for, but no CUDA device is there: use 'cpu'")
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=precision)
    if device.index is not None and device != accelerator.device:
        raise ValueError(
            f"device {str(device)!r} was asked for, but Accelerate gives this process {accelerator.device}: "
            f"set CUDA_VISIBLE_DEVICES={device.index} and use device='cuda'"
        )
    return accelerator


def _rng_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_rng_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
