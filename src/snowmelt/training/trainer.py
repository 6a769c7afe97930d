"""The trainer of diffusion models. It trains; `snowmelt.DiffusionSampler` makes the pictures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from snowmelt.data import DiffusionDataLoader
from snowmelt.models import EMA, Checkpoint, DiffusionModel, load_weights
from snowmelt.models.weights import name_file_in_errors
from snowmelt.progress import progress
from snowmelt.sampling import DiffusionSampler, image_seeds
from snowmelt.training.accelerator import make_accelerator
from snowmelt.training.base import BaseTrainer
from snowmelt.training.interrupt import CtrlC
from snowmelt.training.logger import DiffusionLogger
from snowmelt.training.loss import denoising_loss, drop_labels
from snowmelt.training.state import Progress, check_resumable, random_state, set_random_state

__all__ = ["DiffusionTrainer"]

STEPS_BETWEEN_LOSSES = 20  # on the bar: reading the loss waits for the device


class DiffusionTrainer(BaseTrainer):
    """Trains a diffusion model. For inference, use `snowmelt.DiffusionSampler` directly.

    Resuming is exact: on the same machine, a run that was stopped and resumed ends with the same bits as
    one that was not. Checkpoints hold weights, EMA, optimizer, learning rate schedule, the position in the
    epoch and the state of the random generators; the order of the data follows from seed and epoch.

    Args:
        model: what to train, on any noise schedule; moved to `device`.
        dataloader: training and, if it has some, validation data.
        optimizer: over the model's parameters.
        logger: where metrics and sample grids go; None keeps no record.
        device: ``"cpu"``, ``"cuda"``, ...; with several processes, Accelerate gives each its own.
        show_progress: show a bar over the images of the run.
        use_ema: keep an exponential moving average of the weights.
        ema_decay: its decay, in (0, 1); warmed up over the first steps.
        use_amp: mixed precision on CUDA (bfloat16 where the device has it, else float16). On the CPU it would
            be slower than float32, so there a warning says that it is left out.
        gradient_clip_norm: largest norm of the gradient; None does not clip.
        sample_images: log a grid of samples every `sample_interval` epochs.
        sample_interval: in epochs, >= 1.
        samples_per_class: images of each class in such a grid (in all, for an unconditional model).
        guidance_scale: of those images.
        scheduler: learning rate schedule, stepped once an epoch.
        sampler: makes the grids; None takes one with the default method.
        evaluate: `train` calls it with the sampler every `evaluate_frequency` epochs, and it returns metrics
            of the images that it makes, by name. It must leave torch's global generator alone, or resuming is
            not exact.
        num_samples: images of all classes together in a sample grid; None takes `samples_per_class`.
        config: the settings of the run; checkpoints keep a copy.

    Attributes:
        sampler: a `DiffusionSampler` that shares the model and the EMA.
        ema: the EMA, or None.
        progress: how far the run has come; `epoch` (completed) and `global_step` (optimizer steps) are short
            for its attributes.

    >>> from snowmelt import DiffusionDataLoader, DiffusionTrainer, create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32, num_classes=10)
    >>> data = DiffusionDataLoader("digits", image_size=8, in_channels=1, batch_size=512)
    >>> trainer = DiffusionTrainer(model, data, torch.optim.AdamW(model.parameters(), lr=1e-3))
    >>> metrics = trainer.train(num_epochs=1)
    >>> sorted(metrics), trainer.progress.images
    (['train_loss'], 1797)
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
        self.progress = Progress()
        # What has a state of its own, besides model and EMA; under these names in checkpoints
        parts = {"optimizer": optimizer, "scheduler": scheduler, "scaler": self.accelerator.scaler}
        self._parts = {name: part for name, part in parts.items() if part is not None}

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.progress.epoch

    @property
    def global_step(self) -> int:
        """Optimizer steps so far."""
        return self.progress.global_step

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
        Ctrl-C the step at hand is finished, ``latest.pth`` written, and KeyboardInterrupt raised; a resumed
        run goes on at the next batch. A second Ctrl-C interrupts at once, and nothing is written.

        Args:
            num_epochs: >= 1.
            checkpoint_dir: where checkpoints go; None writes none.
            save_frequency: epochs between two saves, >= 1.
            save_best_only: keep no file for each saved epoch.
            save_optimizer: without its state a checkpoint is smaller and cannot be resumed exactly.
            validate_frequency: epochs between two validations; None never validates.
            evaluate_frequency: epochs between two evaluations of generated images; None never evaluates.
            watch: ``"loss"`` (that of the validation where there is one, of the training otherwise), or the
                name of a metric of the evaluation.
            maximize: whether more of the watched metric is better.

        Returns:
            The metrics of the last epoch.

        Raises:
            FloatingPointError: the loss is not finite any more. No checkpoint is overwritten.
        """
        folder = Path(checkpoint_dir) if checkpoint_dir is not None else None
        done = self.progress
        metrics: dict[str, float] = {}
        if watch != done.watched:
            done.watched, done.best_metric = watch, -math.inf if maximize else math.inf

        def save(name: str) -> None:
            if folder is not None:
                self.save_checkpoint(folder / name, save_optimizer=save_optimizer)

        def is_due(frequency: int | None) -> bool:
            return frequency is not None and (done.epoch % frequency == 0 or done.epoch == num_epochs)

        with CtrlC() as ctrl_c, self._bar(num_epochs) as bar:
            while done.epoch < num_epochs:
                for images in self.steps():
                    bar.update(images)
                    if done.batch % STEPS_BETWEEN_LOSSES == 0 and self.show_progress:
                        _show(bar, done.epoch, {**metrics, "train_loss": self._mean_loss()})
                    if ctrl_c.pressed:
                        self._mean_loss()  # or what is saved would be of no use
                        save("latest.pth")
                        raise KeyboardInterrupt
                learning_rate = self.optimizer.param_groups[0]["lr"]
                metrics = _named("train", self._end_epoch())

                if is_due(validate_frequency):
                    metrics |= _named("val", self.validate_epoch())
                if is_due(evaluate_frequency):
                    metrics |= _named("eval", self.evaluate_epoch())
                _show(bar, done.epoch, metrics)
                if self.logger is not None:
                    row = {**metrics, "learning_rate": learning_rate}
                    self.logger.log_metrics(row, step=done.global_step, epoch=done.epoch)
                    if self.sample_images and done.epoch % self.sample_interval == 0:
                        self._generate_samples(self.logger)

                loss = metrics.get("val_loss", metrics["train_loss"])
                watched = loss if watch == "loss" else metrics.get(f"eval_{watch}")
                best = done.best_metric
                if watched is not None and (watched > best if maximize else watched < best):
                    done.best_metric = watched
                    save("best_model.pth")
                if is_due(save_frequency):
                    save("latest.pth")
                    if not save_best_only:
                        save(f"epoch_{done.epoch:04d}.pth")
        return metrics

    def steps(self) -> Iterator[int]:
        """Take the optimizer steps of an epoch, or what is left of them; after each, yield its images.

        Nothing in here waits for the device. The caller may stop between two steps, and go on later.
        """
        self.model.train()
        batches = self.dataloader.train_loader(self.progress.epoch, self.progress.batch, self._process)
        for x0, class_labels in batches:
            loss = self._loss(x0, class_labels, self.model.class_dropout_prob)
            self._optimizer.zero_grad()
            self.accelerator.backward(loss)
            if self.gradient_clip_norm is not None:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.gradient_clip_norm)
            self._optimizer.step()
            if self.ema is not None:
                self.ema.update()
            images = len(x0) * self.accelerator.num_processes
            self.progress.add_step(images, loss.detach())
            yield images

    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch, or for what a resumed checkpoint left of it, and return the mean loss."""
        for _ in self.steps():
            pass
        return self._end_epoch()

    def _end_epoch(self) -> dict[str, float]:
        loss = self._mean_loss(self.accelerator.reduce(self.progress.loss_sum, "mean"))
        if self.scheduler is not None:
            with warnings.catch_warnings():
                # Torch warns if a run is resumed behind an epoch's last batch, for it has taken no step
                warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step", UserWarning)
                self.scheduler.step()
        self.progress.end_epoch()
        return {"loss": loss}

    def _mean_loss(self, loss_sum: Tensor | None = None) -> float:
        """Return the mean loss of the epoch at hand, by default that of this process."""
        loss: float = (self.progress.loss_sum if loss_sum is None else loss_sum).item() / self.progress.batch
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss is {loss} in epoch {self.progress.epoch + 1}: lower the learning rate or "
                "clip gradients; the last checkpoint is as it was before this epoch"
            )
        return loss

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
            return denoising_loss(self.model, x0, labels, generator, network=self._network)

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

    def _generate_samples(self, logger: DiffusionLogger) -> None:
        """Log a grid of samples and how the first ones came about, with the same seeds every time."""
        classes, count = self.model.num_classes, self.num_samples
        labels = [index * classes // count for index in range(count)] if classes else None
        scale = self.guidance_scale if labels else 0.0
        states = list(self.sampler.trajectory(count, labels, scale, seeds=image_seeds(0, count)))
        images = self.model.decode(states[-1].x_t).clamp(-1, 1)
        logger.log_images(images, "samples", self.global_step, class_labels=labels)
        chosen = [*states[:: max(1, len(states) // 8)], states[-1]]
        # On exploding schedules, noise would be all white and black
        shown = [state.x_t[:8] / max(1.0, math.hypot(*state.level[1:])) for state in chosen]
        logger.log_film_strip(shown, "denoising", self.global_step)

    def save_checkpoint(self, path: str | Path, *, save_optimizer: bool = True) -> None:
        """Write model, EMA, optimizer, position and random state to `path`, whole or not at all."""
        if not self.accelerator.is_main_process:
            return
        training = {**self.progress.state_dict(), "rng_state": random_state()}
        for name, part in self._parts.items() if save_optimizer else ():
            training |= {f"{name}_type": type(part).__name__, f"{name}_state_dict": part.state_dict()}
        class_names = getattr(self.dataloader, "class_names", None) or None
        values = {"class_names": class_names, "training": training, "config": self.config}
        Checkpoint.of(self.model, self.ema, **values).write(path)

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
        checkpoint = Checkpoint.read(path)
        state = checkpoint.training
        reset = {"optimizer": reset_optimizer, "scaler": reset_optimizer, "scheduler": reset_scheduler}
        parts = {name: part for name, part in self._parts.items() if not reset[name]}
        check_resumable(state, parts, path)
        load_weights(self.model, checkpoint.weights, source=path)
        if self.ema is not None and checkpoint.ema is None:
            warnings.warn(f"{path} holds no EMA weights: the average starts from its weights", stacklevel=2)
            self.ema = self.sampler.ema = EMA(self.model, self.ema.decay, warmup=True)
        with name_file_in_errors(path):
            if self.ema is not None and checkpoint.ema is not None:
                self.ema.load_state_dict(checkpoint.ema)
            for name, part in parts.items():
                part.load_state_dict(state[f"{name}_state_dict"])
        self.progress.load_state_dict(state)
        if "images" not in state:  # a file from before images were counted
            self.progress.images = self._images_in(self.progress.epoch, self.progress.batch)
        if self.logger is not None:
            self.logger.rewind(self.global_step)
        set_random_state(state["rng_state"])

    @property
    def _process(self) -> tuple[int, int]:
        return self.accelerator.process_index, self.accelerator.num_processes

    def _images_in(self, epochs: int, batches: int) -> int:
        a_batch = self.dataloader.batch_size * self.accelerator.num_processes
        batches_an_epoch = self.dataloader.batches_per_epoch(self._process)
        an_epoch = min(batches_an_epoch * a_batch, self.dataloader.num_train_images)
        images: int = epochs * an_epoch + batches * a_batch
        return images

    def _bar(self, num_epochs: int) -> tqdm[Any]:
        """Return the bar over the images of the run, those before a resume included."""
        done = self.progress
        ahead = max(0, self._images_in(num_epochs - done.epoch, -done.batch))
        options = {"initial": done.images, "total": done.images + ahead, "unit": " images"}
        return progress(None, "Training", show=self.show_progress, unit_scale=True, **options)


def _named(kind: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{kind}_{name}": value for name, value in metrics.items()}


def _show(bar: tqdm[Any], epoch: int, metrics: Mapping[str, float]) -> None:
    bar.set_postfix({"epoch": epoch, **{k: f"{v:.4f}" for k, v in metrics.items()}}, refresh=False)
