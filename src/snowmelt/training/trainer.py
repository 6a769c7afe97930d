"""The trainer of diffusion models. It trains; `snowmelt.DiffusionSampler` makes the pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from snowmelt.data import DiffusionDataLoader
from snowmelt.files import atomic_copy
from snowmelt.models import EMA, Checkpoint, DiffusionModel
from snowmelt.sampling import DiffusionSampler
from snowmelt.training.accelerator import make_accelerator
from snowmelt.training.bar import make_bar, make_clock, show_metrics
from snowmelt.training.base import BaseTrainer
from snowmelt.training.finite import check_trainer, diverged
from snowmelt.training.grids import log_samples
from snowmelt.training.interrupt import Interrupted, Interruption
from snowmelt.training.learning_rate import LearningRate
from snowmelt.training.logger import DiffusionLogger
from snowmelt.training.loss import denoising_loss, labels_to_learn
from snowmelt.training.old_words import old_words
from snowmelt.training.processes import check_batches, from_first, largest, of_all, own_stream
from snowmelt.training.resume import read_resumable, restore, saved_state
from snowmelt.training.state import Progress, named, random_state
from snowmelt.training.times import Times
from snowmelt.training.uncertainty import Uncertainty
from snowmelt.training.weightings import Weighting

__all__ = ["DiffusionTrainer"]

STEPS_BETWEEN_LOSSES = 20  # on the bar: reading the loss waits for the device


class DiffusionTrainer(BaseTrainer):
    """Trains a diffusion model. For inference, use `snowmelt.DiffusionSampler` directly.

    Resuming is exact: on the same machine, a run that was stopped and resumed ends with the same bits as
    one that was not. Checkpoints hold weights, EMA, optimizer, the position and the state of the random
    generators of every process; the order of the data follows from seed and epoch. All settings are this
    trainer's, not the checkpoint's: its learning rates are those of its schedule at the position.

    Args:
        model: what to train, on any noise schedule; moved to `device`.
        dataloader: training and, if it has some, validation data.
        optimizer: over the model's parameters.
        logger: where metrics and sample grids go; None keeps no record.
        device: ``"cpu"``, ``"cuda"``, ...; with several processes, Accelerate gives each its own.
        show_progress: show a bar over the images of the run.
        use_ema: keep an exponential moving average of the weights.
        ema_decay: its decay, in (0, 1); warmed up over the first steps.
        use_amp: mixed precision on CUDA: bfloat16 where the device has it, else float16.
        gradient_clip_norm: largest norm of the gradient; None does not clip.
        sample_images: log a grid of samples every `sample_interval` epochs.
        sample_interval: in epochs, >= 1.
        samples_per_class: images of each class in such a grid (in all, for an unconditional model).
        guidance_scale: of those images.
        scheduler: learning rate schedule, stepped once an epoch.
        warmup: images over which the learning rate rises linearly from 0 to that of the schedule.
        weighting: how much each noise level counts in the loss, also in that of validation: a name of
            `snowmelt.training.WEIGHTINGS`, or a `Weighting`, which has options.
        times: how noise levels are drawn: a name of `snowmelt.training.DISTRIBUTIONS`, or `Times`, which has
            options; None draws them as the schedule's paper does.
        uncertainty: learned beside the model; the optimizer has its parameters too. Validation leaves it out.
        sampler: makes the grids; None takes one with the default method.
        evaluate: `train` calls it with the sampler every `evaluate_frequency` epochs, and it returns metrics
            of the images that it makes, by name. It must leave torch's global generator alone, or resuming is
            not exact.
        num_samples: images of all classes together in a sample grid; None takes `samples_per_class`.
        config: the settings of the run; checkpoints keep a copy.

    Attributes:
        sampler: a `DiffusionSampler` that shares the model and the EMA.
        ema: the EMA, or None.
        progress: how far the run has come: `epoch` (completed), `global_step` (of the optimizer), `images`.

    >>> from snowmelt import DiffusionDataLoader, DiffusionTrainer, create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=8, norm_groups=4, num_classes=10)
    >>> data = DiffusionDataLoader("digits:test", image_size=8, in_channels=1, batch_size=180)
    >>> trainer = DiffusionTrainer(model, data, torch.optim.AdamW(model.parameters(), lr=1e-3))
    >>> metrics = trainer.train(num_epochs=1)
    >>> sorted(metrics), trainer.progress.images
    (['train_loss'], 360)
    >>> trainer.sampler.sample(num_samples=2).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        model: DiffusionModel,
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
        warmup: int = 0,
        weighting: str | Weighting = "uniform",
        times: str | Times | None = None,
        uncertainty: Uncertainty | None = None,
        sampler: DiffusionSampler | None = None,
        evaluate: Callable[[DiffusionSampler], Mapping[str, float]] | None = None,
        config: Mapping[str, Any] | None = None,
        num_samples: int | None = None,
    ) -> None:
        self.accelerator = make_accelerator(device, use_amp)
        self.show_progress = show_progress and self.accelerator.is_main_process
        self.device = device
        self.model = model.to(self.accelerator.device)
        self.dataloader = dataloader
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.logger = logger if self.accelerator.is_main_process else None
        self.gradient_clip_norm = gradient_clip_norm
        self.objective: dict[str, Any] = {"weighting": Weighting.of(weighting), "times": Times.of(times)}
        self.sample_images = sample_images
        self.sample_interval = sample_interval
        self.num_samples = num_samples or samples_per_class * (model.num_classes or 1)
        self.guidance_scale = guidance_scale
        self.evaluate = evaluate
        self.config = dict(config) if config is not None else None

        self.ema = EMA(model, ema_decay, warmup=True) if use_ema else None
        self.sampler = sampler or DiffusionSampler(model, device, self.ema)
        self.sampler.ema = self.ema

        # Only the network is wrapped (for several processes, for mixed precision): the model around it is a
        # denoiser, and training asks for the network's own output
        self._network, self._optimizer = self.accelerator.prepare(model.network, optimizer)
        self._uncertainty = uncertainty and self.accelerator.prepare(uncertainty.learned_by(optimizer))
        self.progress = Progress()
        # What has a state of its own, besides model and EMA; under these names in checkpoints
        parts = {"optimizer": optimizer, "scheduler": scheduler, "scaler": self.accelerator.scaler}
        parts["uncertainty"] = uncertainty
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.rate = LearningRate(optimizer, scheduler, warmup)
        check_batches(dataloader, self.process)
        own_stream(self.accelerator)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.progress.epoch

    @property
    def global_step(self) -> int:
        """Optimizer steps so far."""
        return self.progress.global_step

    @property
    def use_ema(self) -> bool:
        """Whether an average of the weights is kept."""
        return self.ema is not None

    @old_words(
        checkpoint_frequency="it is save_frequency now, in epochs",
        save_best="best_model.pth is always written; save_best_only=True writes no file for each saved epoch",
    )
    def train(
        self,
        num_epochs: int,
        checkpoint_dir: str | Path | None = None,
        *,
        save_frequency: int = 1,
        save_best_only: bool = False,
        save_optimizer: bool = True,
        validate_frequency: int | None = 1,
        evaluate_frequency: int | None = None,
        watch: str = "loss",
        maximize: bool = False,
    ) -> dict[str, float]:
        """Train until `num_epochs` epochs are completed, counting those before a resume.

        Writes ``latest.pth`` every `save_frequency` epochs and at the end, ``best_model.pth`` whenever the
        watched metric is better than ever, and one file for each saved epoch unless `save_best_only`. On
        Ctrl-C, SIGTERM or SIGHUP the step at hand is finished, ``latest.pth`` written, and `Interrupted` (a
        KeyboardInterrupt) raised; a resumed run goes on at the next batch. A second Ctrl-C interrupts at
        once, and nothing is written.

        Args:
            num_epochs: >= 1.
            checkpoint_dir: where checkpoints go; None writes none.
            save_frequency: epochs between two saves, >= 1.
            save_best_only: keep no file for each saved epoch.
            save_optimizer: without its state a checkpoint is smaller and cannot be resumed exactly.
            validate_frequency: epochs between two validations; None or 0 never validates.
            evaluate_frequency: epochs between two evaluations of generated images; None or 0 never evaluates.
            watch: ``"loss"`` (where there is validation, its loss in the epochs that have one; otherwise the
                training's), or the name of a metric of the evaluation.
            maximize: whether more of the watched metric is better.

        Returns:
            The metrics of the last epoch.

        Raises:
            FloatingPointError: loss or weights are not finite any more. No checkpoint is overwritten.
        """
        folder = Path(checkpoint_dir) if checkpoint_dir is not None else None
        done = self.progress
        metrics: dict[str, float] = {}
        validates = bool(validate_frequency) and self.dataloader.val_loader() is not None
        if watch != done.watched:
            done.watched, done.best_metric = watch, -math.inf if maximize else math.inf

        def save(name: str, *copies: str) -> None:
            if folder is not None:
                self.save_checkpoint(folder / name, save_optimizer=save_optimizer)
                for copy in copies if self.accelerator.is_main_process else ():
                    atomic_copy(folder / name, folder / copy)

        def is_due(frequency: int | None) -> bool:
            return bool(frequency) and (done.epoch % (frequency or 1) == 0 or done.epoch == num_epochs)

        check_trainer(self)
        clock = make_clock(self, num_epochs)
        with Interruption() as interruption, make_bar(self, num_epochs) as bar, closing(self.dataloader):
            while done.epoch < num_epochs:
                for images in clock.over(self.steps()):
                    bar.update(images)
                    if done.batch % STEPS_BETWEEN_LOSSES == 0 and self.show_progress:
                        show_metrics(bar, done.epoch, {**metrics, "train_loss": self._mean_loss()})
                    if signum := largest(self.accelerator, interruption.signum):
                        self._mean_loss()  # or what is saved would be of no use
                        save("latest.pth")
                        raise Interrupted(signum)
                learning_rate = self.optimizer.param_groups[0]["lr"] * self.rate.share(done.images)
                metrics = named("train", self._end_epoch())
                try:
                    # Alone, a process may leave these at once; others would wait for it
                    alone = self.accelerator.num_processes == 1
                    with interruption.at_once() if alone else nullcontext():
                        if is_due(validate_frequency):
                            metrics |= named("val", self.validate_epoch())
                        if is_due(evaluate_frequency):
                            metrics |= named("eval", self.evaluate_epoch())
                        if self.sample_images and done.epoch % self.sample_interval == 0:
                            self._generate_samples(self.logger)
                except Interrupted:
                    self._log({**metrics, "learning_rate": learning_rate})
                    save("latest.pth")
                    raise
                show_metrics(bar, done.epoch, metrics)
                self._log({**metrics, "learning_rate": learning_rate})

                loss = metrics.get("val_loss", None if validates else metrics["train_loss"])
                watched = loss if watch == "loss" else metrics.get(f"eval_{watch}")
                is_best = done.is_best(from_first(self.accelerator, watched), maximize=maximize)
                names = ["best_model.pth"] if is_best else []
                if is_due(save_frequency):
                    names += (
                        ["latest.pth"] if save_best_only else ["latest.pth", f"epoch_{done.epoch:04d}.pth"]
                    )
                if names:
                    save(*names)
        return metrics

    def steps(self) -> Iterator[int]:
        """Take the optimizer steps of an epoch, or what is left of them; after each, yield its images.

        Nothing in here waits for the device. The caller may stop between two steps, and go on later.
        """
        self.model.train()
        batches = self.dataloader.train_loader(self.progress.epoch, self.progress.batch, self.process)
        for x0, class_labels in batches:
            loss = self._loss(x0, class_labels, self.model.class_dropout_prob)
            self._optimizer.zero_grad()
            self.accelerator.backward(loss)
            if self.gradient_clip_norm is not None:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.gradient_clip_norm)
            images = len(x0) * self.accelerator.num_processes
            with self.rate.warming(self.progress.images + images):
                self._optimizer.step()
            if self.ema is not None:
                self.ema.update()
            self.progress.add_step(images, loss.detach())
            yield images

    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch, or for what a resumed checkpoint left of it, and return the mean loss."""
        for _ in self.steps():
            pass
        return self._end_epoch()

    def _end_epoch(self) -> dict[str, float]:
        loss = self._mean_loss(self.accelerator.reduce(self.progress.loss_sum, "mean"))
        check_trainer(self)
        self.rate.step()
        self.progress.end_epoch()
        return {"loss": loss}

    def _mean_loss(self, loss_sum: Tensor | None = None) -> float:
        """Return the mean loss of the epoch at hand, by default that of this process."""
        loss: float = (self.progress.loss_sum if loss_sum is None else loss_sum).item() / self.progress.batch
        if not math.isfinite(loss):
            raise diverged(f"the training loss is {loss}", self.progress.epoch + 1)
        return loss

    def _loss(
        self,
        x0: Tensor,
        class_labels: Tensor,
        class_dropout_prob: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        device = self.accelerator.device
        x0, class_labels = (batch.to(device, non_blocking=True) for batch in (x0, class_labels))
        labels = labels_to_learn(self.model, class_labels, class_dropout_prob)
        learned = {"network": self._network, "uncertainty": self._uncertainty if generator is None else None}
        with self.accelerator.autocast():
            return denoising_loss(self.model, x0, labels, generator, **learned, **self.objective)

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
        with self.ema.applied() if self.ema is not None else nullcontext():
            for x0, class_labels in loader:
                total += torch.stack([self._loss(x0, class_labels, generator=generator), one]) * len(x0)
        loss_sum, count = total.tolist()
        return {"loss": loss_sum / count}

    def evaluate_epoch(self) -> dict[str, float]:
        """Return the metrics of generated images, in the first process alone; empty without `evaluate`."""
        if self.evaluate is None or not self.accelerator.is_main_process:
            return {}
        return dict(self.evaluate(self.sampler))

    def _generate_samples(self, logger: DiffusionLogger | None, step: int | None = None) -> None:
        if logger is not None:
            step = self.global_step if step is None else step
            log_samples(self.sampler, logger, step, self.num_samples, self.guidance_scale)

    def _log(self, row: Mapping[str, float]) -> None:
        if self.logger is not None:
            self.logger.log_metrics(row, step=self.global_step, epoch=self.epoch)

    @old_words(
        epoch="the checkpoint holds trainer.epoch by itself",
        metrics="they are in the logger's metrics.csv",
    )
    def save_checkpoint(self, path: str | Path, *, save_optimizer: bool = True) -> None:
        """Write model, EMA, optimizer, position and random states to `path`, whole or not at all.

        With several processes, all of them call this, and the first one writes.

        Raises:
            FloatingPointError: the weights are not finite, or what else is saved. Nothing is written.
        """
        check_trainer(self)
        states = of_all(self.accelerator, random_state())
        if not self.accelerator.is_main_process:
            return
        training = saved_state(self, states, save_optimizer=save_optimizer)
        class_names = getattr(self.dataloader, "class_names", None) or None
        values = {"class_names": class_names, "training": training, "config": self.config}
        Checkpoint.of(self.model, self.ema, **values).write(path)

    def load_checkpoint(
        self, path: str | Path, *, reset_optimizer: bool = False, reset_scheduler: bool = False
    ) -> None:
        """Go on from a checkpoint.

        Every setting is this trainer's: learning rates, betas, decays. What the optimizer and the EMA have
        gathered is the checkpoint's.

        Args:
            path: what `save_checkpoint` wrote.
            reset_optimizer: keep this trainer's fresh optimizer instead of the checkpoint's.
            reset_scheduler: begin the learning rate schedule anew.

        Raises:
            CheckpointError: the file cannot be read, was trained as another model or on other classes, stands
                inside an epoch that has other images now, or holds no state of this optimizer or schedule
                where it is wanted. The trainer is as it was before.
        """
        checkpoint = read_resumable(path)
        restore(self, checkpoint, reset_optimizer=reset_optimizer, reset_scheduler=reset_scheduler)

    @property
    def process(self) -> tuple[int, int]:
        return self.accelerator.process_index, self.accelerator.num_processes
