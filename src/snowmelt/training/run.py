"""A whole training run, as a configuration describes it: data, model, optimizer, trainer, files."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import psutil
import torch

from snowmelt.config import Config, resolve_output_path, save_config
from snowmelt.config.training import Training
from snowmelt.data import DiffusionDataLoader
from snowmelt.errors import InputError, require
from snowmelt.files import remove_leftovers
from snowmelt.formats import SPLIT_NAME
from snowmelt.models import Checkpoint, ModelSpec
from snowmelt.networks.checkpointing import checkpoint_activations
from snowmelt.precision import AUTO
from snowmelt.sampling import DiffusionSampler
from snowmelt.text import counted, duration, seconds_in
from snowmelt.training.accelerator import is_first_process
from snowmelt.training.advice import advice
from snowmelt.training.averages import is_schedule_free
from snowmelt.training.changes import changes
from snowmelt.training.data import training_data
from snowmelt.training.folder import newest_whole, remove_run
from snowmelt.training.length import Length
from snowmelt.training.logger import DiffusionLogger
from snowmelt.training.optimizers import make_optimizer
from snowmelt.training.precision import settle_precision
from snowmelt.training.processes import largest
from snowmelt.training.rate_schedules import RateSchedule
from snowmelt.training.report import REPORT, write_training_report
from snowmelt.training.resume import newest_first, read_resumable, restore
from snowmelt.training.start import Start
from snowmelt.training.state import Progress
from snowmelt.training.times import Times
from snowmelt.training.trackers import check_trackers
from snowmelt.training.trainer import DiffusionTrainer
from snowmelt.training.uncertainty import Uncertainty
from snowmelt.training.weightings import Weighting, usual_weighting

__all__ = ["TrainingRun"]

GO_ON = "The run stopped after {:.0%}. The same command with training.resume.enabled=true goes on."

Measure = Callable[[DiffusionSampler], Mapping[str, float]]


class TrainingRun:
    """What `snowmelt train` does.

    Args:
        config: what to train, on what, and how; with `training.init`, that model says the rest of its own.
        device: where.
        evaluation: makes, of the data, the function that measures generated images while training; None
            measures nothing.
        maximize: whether more of `training.validation.metric` is better.
        overwrite: remove a run that is in the folder already.

    Attributes:
        trainer: made by the first access, and resumed if the configuration says so.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device,
        evaluation: Callable[[DiffusionDataLoader], Measure] | None = None,
        *,
        maximize: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._stated = config
        self.device = device
        self.evaluation = evaluation
        self.maximize = maximize
        self.overwrite = overwrite
        self._resumed: Path | None = None

    @cached_property
    def start(self) -> Start:
        """What training starts from."""
        init = self._stated.training.init is not None
        return Start(self._stated, self._resumable() if init else None)

    @property
    def config(self) -> Config:
        """What to train, on what, and how."""
        return self.start.config

    def check(self) -> None:
        """Do all that can fail before any work is done: open the data, build the model, read the checkpoint.

        Nothing is written.

        Raises:
            InputError: something is missing or does not fit; the message says what to change.
        """
        require("accelerate", "jinja2", "matplotlib", needed_by="training", extra="train")
        check_trackers(self.config.training.trackers)
        if is_first_process() and not self.overwrite:
            self.check_folder()
        done = self.trainer.progress
        if self._resumed is not None:
            steps = f" and {counted(done.batch, 'step')}" if done.batch else ""
            self._say(f"Resumed from {self._resumed} after {counted(done.epoch, 'epoch')}{steps}")
            if self.trainer.is_done:
                key = "budget" if self.length.by_clock else self.length.unit
                amount = getattr(self.config.training, key)
                self._say(f"Nothing is left to train: training.{key} is {amount}; raise it to go on")
        elif self.config.training.resume.enabled:
            self._say(f"No checkpoint in {self.folder} yet: training starts at the beginning")
        for line in self.start.lines:
            self._say(line)
        if reason := settle_precision(self.trainer).reason:
            self._say(reason)

    def run(self) -> Path:
        """Train, and return the folder of the checkpoints."""
        config, training, trainer = self.config, self.config.training, self.trainer
        if trainer.is_done and (resolve_output_path(config, "logs") / REPORT).exists():
            return self.folder
        self.data.prepare()  # before anything is written: an image may be broken
        with self._open_logger() as logger:
            self._say(self.summary())
            if logger is not None:
                if self.data.division is not None:
                    self.data.division.write(self.split_file)
                trainer.logger = logger
                logger.rewind(trainer.global_step)
                save_config(config, logger.log_dir / "config.yaml")
                logger.log_hyperparameters(config.model_dump(mode="json"))
            if training.budget is not None and trainer.share < 1:
                self._count_start(trainer)
            try:
                saves = training.checkpointing
                trainer.train(
                    training.epochs,
                    self.folder,
                    num_images=training.images,
                    num_steps=training.steps,
                    num_seconds=self.length.amount if training.budget is not None else None,
                    save_frequency=saves.save_frequency,
                    save_minutes=saves.minutes,
                    save_images=saves.images,
                    keep_last=saves.keep_last,
                    save_best_only=saves.save_best_only,
                    save_optimizer=saves.save_optimizer,
                    validate_frequency=training.validation.frequency if training.validation.enabled else None,
                    evaluate_frequency=training.evaluation.frequency if training.evaluation.enabled else None,
                    watch=training.validation.metric,
                    maximize=self.maximize,
                )
            finally:
                if logger is not None:
                    logger.plot_losses()
                    self._say(f"The page of this run: {self._report(logger)}")
        self._say(f"Saved checkpoints to: {self.folder}")
        return self.folder

    def _count_start(self, trainer: DiffusionTrainer) -> None:
        """Count the seconds since this process began: a budget is that of the whole command."""
        passed = time.time() - psutil.Process().create_time()
        trainer.progress.seconds += max(largest(trainer.accelerator, passed))
        if trainer.global_step == 0:  # schedules begin with the first step
            trainer.rate.start.seconds = trainer.progress.seconds
        if trainer.share >= 1:
            raise InputError(
                f"training.budget is {self.config.training.budget}, and starting alone took "
                f"{duration(passed)}: give more time"
            )

    def summary(self) -> str:
        """Return the numbers of parameters, images and steps, and the precision, in a sentence."""
        trainer = self.trainer
        epochs = self.length.epochs_left(Progress(), trainer.an_epoch)
        classes = counted(trainer.model.num_classes, "class") if trainer.model.num_classes else "no classes"
        length = str(self.length)
        if self.length.unit != "epochs":
            length += f", {epochs:.3g} epochs" if epochs else ", epochs"
        precision = settle_precision(trainer).precision
        images = counted(trainer.dataloader.num_train_images, "image")
        return (
            f"Training {trainer.model.num_parameters:,} parameters in {precision} on {images}, {classes}: "
            f"{length} of {counted(trainer.an_epoch.steps, 'step')}"
        )

    def _report(self, logger: DiffusionLogger) -> Path:
        """Write the page of the run."""
        trainer, real = self.trainer, self.config.data.paths.train
        facts = {
            "images": f"{counted(trainer.dataloader.num_train_images, 'image')} of {real}",
            "network": f"{trainer.model.num_parameters:,} parameters",
            "seen": f"{counted(trainer.progress.images, 'image')} in {counted(trainer.global_step, 'step')}",
            "checkpoints": str(self.folder),
        }
        judged = trainer.dataloader.val_loader() is not None or self.config.training.evaluation.enabled
        model = self.folder / ("best_model.pth" if judged else "latest.pth")
        may_fall = trainer.scheduler is None and not is_schedule_free(trainer.optimizer)
        next_steps = [
            *([] if trainer.is_done else [GO_ON.format(trainer.share)]),
            *advice(
                logger.numbers(),
                ended=trainer.is_done,
                schedule=trainer.rate.schedule.name if may_fall else None,
            ),
            f"Look at images: snowmelt sample {model}",
            f"Measure them, and look for copies: snowmelt evaluate {model} --real {self._measured_by()}",
        ]
        return write_training_report(logger, f"Training: {self.config.experiment}", facts, next_steps)

    def _measured_by(self) -> str:
        """Return the images that those of the model are compared with, as the command line takes them."""
        division = self.data.division
        if division is None:
            return str(self.config.data.paths.train)
        held_out = [part for part in ("test", "val") if part in division.parts.values()][:1]
        options = [f"{self.split_file}:train", *(f"--held-out {self.split_file}:{part}" for part in held_out)]
        return " ".join(options)

    @property
    def length(self) -> Length:
        """How long the run is."""
        training = self.config.training
        seconds = seconds_in(training.budget) if training.budget is not None else None
        return Length.of(training.epochs, training.images, training.steps, seconds)

    @property
    def folder(self) -> Path:
        """Where the checkpoints go."""
        return resolve_output_path(self._stated, "checkpoints")

    @property
    def split_file(self) -> Path:
        """Where the division of the images goes: beside the checkpoints, so that it goes where they go."""
        return self.folder / SPLIT_NAME

    @property
    def _earlier_split(self) -> Path | None:
        """The division that a run goes on with; None for a run that begins."""
        resume = self.config.training.resume
        if not resume.enabled:
            return None
        return Path(resume.checkpoint).parent / SPLIT_NAME if resume.checkpoint else self.split_file

    def _say(self, text: str) -> None:
        if is_first_process():
            print(text, flush=True)

    def check_folder(self) -> None:
        """Raise InputError if training would mix with a run that is in the folder already."""
        resume = self.config.training.resume
        source = Path(resume.checkpoint).absolute().parent if resume.checkpoint else self.folder.absolute()
        goes_on = resume.enabled and source == self.folder.absolute()
        if not goes_on and (there := next(newest_first(self.folder), None)):
            raise InputError(
                f"{there} is there already, from an earlier run. Choose: go on from it "
                "(training.resume.enabled=true), remove that run and start anew (--overwrite), or keep it "
                "and take another folder (output.base_dir=...)"
            )

    @contextmanager
    def _open_logger(self) -> Iterator[DiffusionLogger | None]:
        """Clear what is not to be kept, and open the logger of the first process."""
        if not is_first_process():
            yield None
            return
        logs, samples = (resolve_output_path(self.config, name) for name in ("logs", "samples"))
        for folder in (self.folder, logs, samples):
            remove_leftovers(folder)
        if self._resumed is None:
            remove_run(self.folder, logs, samples)
        config = self.config
        trackers, run = config.training.trackers, config.experiment
        with DiffusionLogger(logs, samples_dir=samples, trackers=trackers, run=run) as logger:
            yield logger

    @cached_property
    def data(self) -> DiffusionDataLoader:
        """The images to learn from."""
        return training_data(self.config, self.device, self._earlier_split)

    @cached_property
    def trainer(self) -> DiffusionTrainer:
        """The trainer that the configuration describes."""
        config, training = self.config, self.config.training
        torch.manual_seed(config.compute.seed)
        torch.backends.cuda.matmul.allow_tf32 = training.performance.use_tf32
        torch.backends.cudnn.allow_tf32 = training.performance.use_tf32
        torch.backends.cudnn.benchmark = training.performance.cudnn_benchmark

        data = self.data
        options = self.start.model_options()
        # A single class tells nothing
        number = options.setdefault("num_classes", data.num_classes if data.num_classes > 1 else None)
        if number is not None and number != data.num_classes:
            raise InputError(
                f"model.conditioning.num_classes is {number}, but {config.data.paths.train} has "
                f"{counted(data.num_classes, 'class')}: set it to {data.num_classes}, or to null for those "
                "of the data"
            )
        if data.augmentation is not None and data.augmentation.conditioned:
            options["augment_channels"] = data.augmentation.channels
        model = ModelSpec.from_config(options).build().to(self.device)
        self.start.load_into(model, data.class_names)
        if training.performance.checkpoint_activations:
            checkpoint_activations(model.get_submodule("network"))
        uncertainty = Uncertainty().to(self.device) if training.loss.uncertainty else None
        optimizer = make_optimizer(
            training.optimizer.type,
            [
                *(parameter for parameter in model.parameters() if parameter.requires_grad),
                *(uncertainty.parameters() if uncertainty is not None else ()),
            ],
            training.optimizer.learning_rate,
            training.optimizer.betas,
            training.optimizer.weight_decay,
        )
        self.start.set_rates(optimizer, model)
        trainer = DiffusionTrainer(
            model,
            data,
            optimizer,
            device=self.device,
            show_progress=True,
            use_ema=training.ema.enabled,
            **training.ema.profile(),
            snapshots=training.ema.snapshots,
            precision=config.compute.precision or AUTO,
            compile_model=training.performance.compile_model,
            sharding=config.compute.sharding,
            gradient_clip_norm=training.optimizer.gradient_clip_norm,
            sample_images=training.visualization.enabled,
            sample_interval=training.visualization.interval,
            num_samples=training.visualization.num_samples,
            guidance_scale=training.visualization.guidance_scale,
            rate_schedule=_rate_schedule(training),
            warmup=training.scheduler.warmup,
            accumulation=training.accumulation,
            weighting=Weighting(
                training.loss.weighting or usual_weighting(model.parameterization), training.loss.options
            ),
            times=Times(**training.times.model_dump()),
            uncertainty=uncertainty,
            evaluate=self.evaluation(data) if self.evaluation is not None else None,
            config=config.model_dump(mode="json"),
        )
        trainer.length = self.length
        self._resume(trainer)
        return trainer

    def _resumable(self) -> Checkpoint | None:
        """Return the checkpoint to go on from: the named one, or the newest of this folder that is whole."""
        resume = self._stated.training.resume
        if not resume.enabled:
            return None
        return read_resumable(resume.checkpoint) if resume.checkpoint else newest_whole(self.folder)

    def _resume(self, trainer: DiffusionTrainer) -> None:
        """Go on from a checkpoint, if there is one."""
        resume = self.config.training.resume
        checkpoint = self._resumable()
        if checkpoint is None:
            return
        restore(
            trainer,
            checkpoint,
            reset_optimizer=resume.reset_optimizer,
            reset_scheduler=resume.reset_scheduler,
        )
        self._resumed = checkpoint.source
        lines = changes(checkpoint, self.config, trainer.optimizer.param_groups[0]["lr"])
        if lines and is_first_process():
            warnings.warn(
                f"{checkpoint.source} goes on with this run's settings, which differ ({'; '.join(lines)})",
                stacklevel=2,
            )


def _rate_schedule(training: Training) -> RateSchedule:
    """Return the learning rate schedule of the file."""
    schedule, rate = training.scheduler, training.optimizer.learning_rate
    over = Length.of(epochs=schedule.T_max) if isinstance(schedule.T_max, int) else None
    return RateSchedule(schedule.type, schedule.options(), schedule.eta_min / rate, over)
