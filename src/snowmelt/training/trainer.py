"""The trainer of diffusion models. It trains; `snowmelt.DiffusionSampler` makes the pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from snowmelt.data import TrainingData
from snowmelt.models import EMA, Checkpoint, DiffusionModel
from snowmelt.plans import Method
from snowmelt.sampling import DiffusionSampler
from snowmelt.training.accelerator import clip_gradients, make_accelerator
from snowmelt.training.accumulation import add_gradients, groups
from snowmelt.training.averages import prepare_optimizer, update_average
from snowmelt.training.bar import advance, make_bar, make_clock, show_metrics
from snowmelt.training.base import BaseTrainer
from snowmelt.training.clock import Timer
from snowmelt.training.compiling import Compiled
from snowmelt.training.finite import check_trainer, diverged
from snowmelt.training.grids import log_samples
from snowmelt.training.interrupt import Interrupted, Interruption
from snowmelt.training.learning_rate import LearningRate
from snowmelt.training.length import Epoch, Length
from snowmelt.training.logger import DiffusionLogger
from snowmelt.training.loss import BatchLoss, batch_loss
from snowmelt.training.old_words import old_words
from snowmelt.training.processes import check_batches, own_stream
from snowmelt.training.rate_schedules import RateSchedule
from snowmelt.training.resume import read_resumable, restore, saved_state
from snowmelt.training.saving import Saving
from snowmelt.training.sharding import divides, shared, whole_sampler
from snowmelt.training.shards import gathered
from snowmelt.training.snapshots import Snapshots
from snowmelt.training.state import Progress, named
from snowmelt.training.times import Times
from snowmelt.training.uncertainty import Uncertainty
from snowmelt.training.validation import validation_loss
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
        ema_width: in its place, the width of an average over a share of the run.
        snapshots: of averages over the run, of which `snowmelt ema` makes those of any width.
        use_amp: True is another word for ``precision="auto"``.
        gradient_clip_norm: largest norm of the gradient; None does not clip.
        sample_images: log a grid of samples every `sample_interval` epochs.
        sample_interval: in epochs, >= 1.
        samples_per_class: images of each class in such a grid (in all, for an unconditional model).
        guidance_scale: of those images.
        scheduler: learning rate schedule of torch, stepped once an epoch.
        rate_schedule: in its place, one that follows the run in each step: a name, or a `RateSchedule`.
        warmup: images over which the learning rate rises linearly from 0 to that of the schedule; None for a
            fiftieth of the run.
        accumulation: batches of a step, which learn as one large batch does.
        loss: of a batch, as `snowmelt.training.loss.batch_loss` is one. Another one learns something else.
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
        precision: of the network, as for `DiffusionSampler`; weights, losses and samples stay float32.
        compile_model: train with `torch.compile`, if it works here.
        sharding: ``"fsdp"`` lets each of several processes hold a part of weights, average and optimizer, as
            ``accelerate launch --use_fsdp`` does too, and all of them must sample together; ``"none"`` lets
            each hold all.
        config: the settings of the run; checkpoints keep a copy.
        method: how the model is best sampled, where it is made for one; checkpoints state it.

    Attributes:
        length: of the run, which schedules read; `train` sets it.
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
        dataloader: TrainingData,
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
        rate_schedule: str | RateSchedule = "constant",
        warmup: int | None = 0,
        accumulation: int = 1,
        loss: BatchLoss = batch_loss,
        weighting: str | Weighting = "uniform",
        times: str | Times | None = None,
        ema_width: float | None = None,
        snapshots: int = 0,
        uncertainty: Uncertainty | None = None,
        sampler: DiffusionSampler | None = None,
        evaluate: Callable[[DiffusionSampler], Mapping[str, float]] | None = None,
        config: Mapping[str, Any] | None = None,
        method: Method | None = None,
        num_samples: int | None = None,
        precision: str | None = None,
        compile_model: bool = False,
        sharding: str = "none",
    ) -> None:
        self.precision = precision or ("auto" if use_amp else "fp32")
        self.accelerator = make_accelerator(device, self.precision)
        self.show_progress = show_progress and self.accelerator.is_main_process
        self.device = device
        self.model = model.to(self.accelerator.device)
        self.dataloader = dataloader
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.logger = logger if self.accelerator.is_main_process else None
        self.gradient_clip_norm = gradient_clip_norm
        self.loss = loss
        self.objective: dict[str, Any] = {"weighting": Weighting.of(weighting), "times": Times.of(times)}
        self.sample_images = sample_images
        self.sample_interval = sample_interval
        self.num_samples = num_samples or samples_per_class * (model.num_classes or 1)
        self.guidance_scale = guidance_scale
        self.evaluate = evaluate
        self.config = dict(config) if config is not None else None
        self.method = method

        self.progress = Progress()
        self.sampler = sampler or DiffusionSampler(model, device, method=method)

        # Only the network is wrapped (for several processes, by the compiler): the model around it is a
        # denoiser, and training asks for the network's own output
        self.is_divided = divides(self.accelerator, sharding)
        self.network, self._optimizer, self.uncertainty, self.whole = shared(self, uncertainty)
        self.forward = Compiled(self.network) if compile_model else self.network
        self.ema = EMA(model, ema_decay, warmup=True, width=ema_width) if use_ema else None
        self.sampler.ema = self.ema
        self.snapshots = Snapshots(model, snapshots) if snapshots else None
        self.length: Length | None = None
        self.accumulation = accumulation
        self.an_epoch = Epoch.of(dataloader, self.process, accumulation)
        # What has a state of its own, besides model and EMA; under these names in checkpoints
        parts = {"optimizer": optimizer, "scheduler": scheduler, "scaler": self.accelerator.scaler}
        parts |= {"uncertainty": uncertainty, "loss": loss if hasattr(loss, "state_dict") else None}
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.rate = LearningRate(optimizer, RateSchedule.of(rate_schedule), warmup, scheduler)
        prepare_optimizer(self)
        check_batches(dataloader, self.process)
        own_stream(self.accelerator)

    @property
    def share(self) -> float:
        """How much of the run is done, from 0 to 1; 0 while nobody has said how long it is."""
        return self.length.share(self.progress, self.an_epoch) if self.length is not None else 0.0

    @property
    def is_done(self) -> bool:
        """Whether the run is as long as asked, and what follows its last step is done too."""
        return self.share >= 1 and not self.progress.unfinished

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
        num_epochs: int | None = None,
        checkpoint_dir: str | Path | None = None,
        *,
        num_images: int | None = None,
        num_steps: int | None = None,
        num_seconds: float | None = None,
        save_frequency: int = 1,
        save_minutes: float | None = 10.0,
        save_images: int | None = None,
        keep_last: int | None = None,
        save_best_only: bool = False,
        save_optimizer: bool = True,
        validate_frequency: int | None = 1,
        evaluate_frequency: int | None = None,
        watch: str = "loss",
        maximize: bool = False,
    ) -> dict[str, float]:
        """Train until the run is as long as asked, counting what came before a resume.

        A run may end within an epoch: whatever is done every so many epochs is done at its end too. Writes
        ``latest.pth`` every `save_frequency` epochs, every `save_minutes` and at the end, ``best_model.pth``
        whenever the watched metric is better than ever, and one file for each saved epoch. On Ctrl-C, SIGTERM
        or SIGHUP the step at hand is finished, ``latest.pth`` written, and `Interrupted` (a
        KeyboardInterrupt) raised; a resumed run goes on at the next batch. A second Ctrl-C interrupts at
        once, and nothing is written.

        Args:
            num_epochs, num_images (each time one is seen), num_steps, num_seconds: the length, one of them,
                > 0. With seconds, schedules follow the clock, and the run ends on time, with all that follows
                its last step; so all that ever follows an epoch follows the first one.
            checkpoint_dir: where checkpoints go; None writes none.
            save_frequency: epochs between two saves, >= 1.
            save_minutes: between two saves of ``latest.pth``, or more, so that they take a hundredth of the
                time at most; None for no saves by time.
            save_images: also save a file, such as ``images_0000120000.pth``, every so many images.
            keep_last: files of saved epochs, and of `save_images`, that stay; None for all, 0 to write none.
            save_best_only: another word for ``keep_last=0``.
            save_optimizer: without its state a checkpoint is smaller and cannot be resumed exactly.
            validate_frequency: epochs between two validations; None or 0 never validates.
            evaluate_frequency: epochs between two evaluations of generated images; None or 0 never evaluates.
            watch: ``"loss"`` (where there is validation, its loss in the epochs that have one; otherwise the
                training's), or the name of a metric of the evaluation.
            maximize: whether more of the watched metric is better.

        Returns:
            The metrics of the last epoch, or of the part of it that is done.

        Raises:
            InputError: none or several of the lengths are given.
            FloatingPointError: loss or weights are not finite any more. No checkpoint is overwritten.
        """
        self.length = Length.of(num_epochs, num_images, num_steps, num_seconds)
        done, folder = self.progress, Path(checkpoint_dir) if checkpoint_dir is not None else None
        metrics: dict[str, float] = {}
        shown: dict[str, float] = {}  # on the bar: the last of each
        validates = bool(validate_frequency) and self.dataloader.val_loader() is not None
        keep = 0 if save_best_only else keep_last
        saving = Saving(
            self,
            folder,
            minutes=save_minutes,
            images=save_images,
            keep_last=keep,
            save_optimizer=save_optimizer,
            watch=watch,
            maximize=maximize,
            validates=validates,
        )

        def is_due(frequency: int | None) -> bool:
            unknown = self.length is not None and self.length.by_clock and not done.ending
            return bool(frequency) and (done.epoch % (frequency or 1) == 0 or self.share >= 1 or unknown)

        check_trainer(self)
        clock, timer = make_clock(self, self.length), Timer(self)
        with Interruption() as interruption, make_bar(self, self.length) as bar:
            while not self.is_done:
                for images in () if done.unfinished else clock.over(self.steps()):
                    advance(bar, images)
                    if done.global_step % STEPS_BETWEEN_LOSSES == 0 and self.show_progress:
                        show_metrics(bar, self, {**shown, "train_loss": self._mean_loss()})
                    _, due, signum = timer.tick(saving.is_due(), interruption.signum)
                    saving.after_step(is_due=bool(due))
                    if self.share >= 1:
                        break
                    if signum:
                        saving.save()
                        raise Interrupted(int(signum))
                before, done.unfinished = done.state_dict(), False
                metrics = named("train", self._end_epoch())
                try:
                    # Alone, a process may leave these at once; others would wait for it
                    with interruption.at_once() if self.accelerator.num_processes == 1 else nullcontext():
                        if is_due(validate_frequency):
                            metrics |= named("val", self.validate_epoch())
                        if is_due(evaluate_frequency):
                            metrics |= named("eval", self.evaluate_epoch())
                        if self.sample_images and is_due(self.sample_interval):
                            self._generate_samples(self.logger)
                except Interrupted:
                    done.load_state_dict({**before, "unfinished": True})  # a resumed run does it all again
                    self.rate.go_to(done.epoch)
                    saving.save()
                    raise
                shown |= metrics
                show_metrics(bar, self, shown)
                if self.logger is not None:
                    row = {**metrics, "learning_rate": done.learning_rate}
                    self.logger.log_metrics(row, self.global_step, self.epoch)
                saving.after_epoch(metrics, is_due=is_due(save_frequency))
                done.ending = max(done.ending, *timer.tick())
        return metrics

    def steps(self) -> Iterator[int]:
        """Take the optimizer steps of an epoch, or what is left of them; after each, yield its images.

        Nothing in here waits for the device. The caller may stop between two steps, and go on later.
        """
        self.model.train()
        batches = self.dataloader.train_loader(self.progress.epoch, self.progress.batch, self.process)
        for group in groups(batches, self.accumulation):
            self._optimizer.zero_grad(set_to_none=True)
            loss, images = add_gradients(self, group)
            if self.gradient_clip_norm is not None:
                clip_gradients(self, self.gradient_clip_norm)
            self.set_rate(images)
            self._optimizer.step()
            if self.ema is not None:
                update_average(self.ema, self.optimizer)
            if self.snapshots is not None:
                self.snapshots.update()
            self.progress.learning_rate = self.optimizer.param_groups[0]["lr"]
            self.progress.add_step(images, loss, len(group))
            yield images

    def set_rate(self, images: int = 0) -> None:
        """Give the optimizer the rate of the position, or of the step of so many images that follows it."""
        self.rate.set(self.progress, self.an_epoch, self.length, images)

    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch, or for what a resumed checkpoint left of it, and return the mean loss."""
        for _ in self.steps():
            pass
        return self._end_epoch()

    def _end_epoch(self) -> dict[str, float]:
        """Return the mean loss of the epoch, and count it unless the run has ended within it."""
        loss = self._mean_loss(self.accelerator.reduce(self.progress.loss_sum, "mean"))
        check_trainer(self)
        if self.progress.batch == self.an_epoch.batches:
            self.rate.end_epoch()
            self.progress.end_epoch()
        return {"loss": loss}

    def _mean_loss(self, loss_sum: Tensor | None = None) -> float:
        """Return the mean loss of the epoch at hand, by default that of this process; 0 at its beginning."""
        batches = max(1, self.progress.batch)
        loss: float = (self.progress.loss_sum if loss_sum is None else loss_sum).item() / batches
        if not math.isfinite(loss):
            raise diverged(f"the training loss is {loss}", self.progress.epoch + 1)
        return loss

    def validate_epoch(self) -> dict[str, float]:
        """Return the mean loss over the validation data, with the same noise every time; empty without data.

        The EMA weights are measured where there are some: they are what samples are made with.
        """
        loss = validation_loss(self)
        return {"loss": loss} if loss is not None else {}

    def evaluate_epoch(self) -> dict[str, float]:
        """Return the metrics of generated images, in the first process alone; empty without `evaluate`."""
        if self.evaluate is None:
            return {}
        with whole_sampler(self) as sampler:
            return dict(self.evaluate(sampler)) if self.accelerator.is_main_process else {}

    def _generate_samples(self, logger: DiffusionLogger | None, step: int | None = None) -> None:
        step = self.global_step if step is None else step
        with whole_sampler(self) as sampler:
            if logger is not None:
                log_samples(sampler, logger, step, self.num_samples, self.guidance_scale)

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
        self._mean_loss()
        check_trainer(self)
        checkpoint = self.checkpoint(saved_state(self, save_optimizer=save_optimizer))
        if self.accelerator.is_main_process:
            checkpoint.write(path)

    def checkpoint(self, training: Mapping[str, Any] | None = None) -> Checkpoint:
        """Return what is trained, with what resuming needs; its tensors are those that training changes.

        All processes must call this; where the weights are divided, the first one gets them whole.
        """
        class_names = getattr(self.dataloader, "class_names", None) or None
        values = {"class_names": class_names, "method": self.method, "config": self.config}
        checkpoint = Checkpoint.of(self.model, self.ema, training=training or {}, **values)
        parts = {name: getattr(checkpoint, name) for name in ("weights", "ema", "training")}
        return replace(checkpoint, **gathered(parts, keep=self.accelerator.is_main_process))

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
