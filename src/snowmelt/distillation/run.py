"""A whole distillation: the teacher's images first, then the student's training, then a picture of both."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt.distillation.critic import Critic, Judgement
from snowmelt.distillation.loss import TIMES, PairLoss
from snowmelt.distillation.pair_file import NAME, read_images, write_images
from snowmelt.distillation.pairs import Pairs
from snowmelt.distillation.picture import PICTURE, save_picture
from snowmelt.distillation.student import check_steps, make_student, student_method, student_rows
from snowmelt.distillation.teacher import Teacher
from snowmelt.errors import InputError
from snowmelt.files import check_writable
from snowmelt.progress import progress
from snowmelt.sampling.memory import free_bytes
from snowmelt.text import counted, duration
from snowmelt.training import DiffusionLogger, DiffusionTrainer
from snowmelt.training.length import Length
from snowmelt.training.optimizers import make_optimizer
from snowmelt.training.resume import newest_first
from snowmelt.training.saving import LATEST
from snowmelt.training.state import Progress
from snowmelt.training.weightings import usual_weighting

__all__ = ["Distillation"]

TEACHING = 1 / 3  # of the time: what the teacher may take
FEW, MOST = 1_000, 65_536  # pairs
CRITIC = 0.02  # weight of its judgement
MEMORY = 0.25  # of what is free: what the pairs may take
BATCH, RATE, WIDTH, WARMUP = 64, 1e-3, 0.1, 1_000  # of the training: images, rate, average, images
SHOWN = 10  # images of each row of the picture
EPOCHS = 10**9  # between two saves that do not follow from time or end


class Distillation:
    """What `snowmelt distill` does.

    Args:
        teacher: what the student imitates.
        folder: gets the teacher's images, and the student as ``latest.pth``. A run that is there already goes
            on, if its teacher and its steps are the same.
        steps: numbers of evaluations that the student is for; its checkpoint states the largest.
        length: of the run: seconds, the teacher's time included; or images that the student sees, > 0.
        pairs: of noise and image; None makes as many as a third of the time allows. A run whose length is no
            time needs it.
        batch_size: of the student's training.
        learning_rate: at its beginning; it falls to zero in a straight line.
        critic: weight of a critic's judgement, >= 0; 0 for the squared error alone.
        precision: of the student's training, as for `snowmelt.DiffusionTrainer`.
        overwrite: remove what is in the folder, and start anew.
        show_progress: show bars.

    Raises:
        InputError: something does not fit; the message says what to change.
    """

    def __init__(
        self,
        teacher: Teacher,
        folder: str | Path,
        steps: Sequence[int],
        length: Length,
        *,
        pairs: int | None = None,
        batch_size: int = BATCH,
        learning_rate: float = RATE,
        critic: float = CRITIC,
        precision: str = "fp32",
        overwrite: bool = False,
        show_progress: bool = False,
    ) -> None:
        self.teacher, self.folder, self.steps = teacher, Path(folder), check_steps(steps)
        self.length, self.num_pairs = length, pairs
        self.batch_size, self.learning_rate, self.precision = batch_size, learning_rate, precision
        self.critic = critic
        self.show_progress = show_progress
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError("a distillation is the work of one process: start it without torchrun")
        if not critic >= 0:
            raise InputError(f"the weight of the critic is 0 or more, got {critic:g}")
        if pairs is None and not length.by_clock:
            raise InputError("without a length of time, the number of pairs must be given (--pairs)")
        if pairs is not None and not 2 <= pairs <= MOST:
            raise InputError(f"pairs of noise and image are 2 to {MOST:,}, got {pairs:,}")
        # Steps that the schedule does not have are refused here
        self.rows = student_rows(teacher.sampler.model.schedule, self.steps)
        self._check_folder(overwrite=overwrite)

    @property
    def about(self) -> dict[str, Any]:
        """What makes the student what it is; its checkpoint says so under ``config``."""
        return {"teacher": self.teacher.about, "steps": self.steps, "pairs": self.num_pairs}

    def run(self) -> Path:
        """Distil, and return the student's checkpoint."""
        began = time.perf_counter()
        images = self._images()
        trainer = self.trainer(images)
        logs = self.folder / "logs"
        with DiffusionLogger(logs, self.folder / "samples", trackers=()) as logger:
            trainer.logger = logger
            if (self.folder / LATEST).exists():
                trainer.load_checkpoint(self.folder / LATEST)
            logger.rewind(trainer.global_step)
            if self.length.by_clock:
                trainer.progress.seconds += time.perf_counter() - began
                self._check_time(trainer.progress)
            amount: dict[str, Any] = {f"num_{self.length.unit}": self.length.amount}
            trainer.train(checkpoint_dir=self.folder, keep_last=0, save_frequency=EPOCHS, **amount)
        unseen = range(len(images), len(images) + SHOWN)
        save_picture(self.folder / PICTURE, self.teacher, trainer.sampler, self.steps, unseen)
        return self.folder / LATEST

    def trainer(self, images: Tensor) -> DiffusionTrainer:
        """Return what trains the student on the teacher's images (N, C, H, W)."""
        teacher, numbers = self.teacher, range(len(images))
        torch.manual_seed(teacher.seed)
        student = make_student(teacher.checkpoint).to(teacher.sampler.device)
        names = teacher.checkpoint.class_names
        critic = Critic(student.image_shape[0], student.num_classes).to(teacher.sampler.device)
        noise, labels = teacher.noise(numbers), teacher.labels(numbers)
        more = {"critic": self.critic, "source": str(teacher.checkpoint.source)}
        return DiffusionTrainer(
            student,
            Pairs(noise, images, labels, self.batch_size, names, teacher.seed),
            make_optimizer("adamw", student.parameters(), self.learning_rate, (0.9, 0.99)),
            device=teacher.sampler.device,
            show_progress=self.show_progress,
            ema_width=WIDTH,
            precision=self.precision,
            gradient_clip_norm=1.0,
            rate_schedule="linear",
            warmup=WARMUP,
            loss=PairLoss(self.rows, Judgement(critic, self.critic) if self.critic else None),
            weighting=usual_weighting(student.parameterization),
            times=TIMES,
            method=student_method(self.steps[-1]),
            config={"distillation": self.about | more},
        )

    def _images(self) -> Tensor:
        """Return the teacher's images: those of the file, or new ones."""
        path = self.folder / NAME
        if path.exists():
            return read_images(path, self.about)
        images = self._made()
        if self.num_pairs is None and len(images) < FEW:
            warnings.warn(
                f"the teacher made {counted(len(images), 'image')} in a third of the time, and a student "
                "learns so few by heart: give more time, or a method of fewer evaluations than "
                f"{self.teacher.sampler.method} ({self.teacher.sampler.plan.nfe})",
                stacklevel=2,
            )
        write_images(path, images, self.about)
        return images

    def _made(self) -> Tensor:
        """Let the teacher make images: as many as asked for, or as time and memory allow."""
        most, together = self.num_pairs or self._most(), self.teacher.sampler.micro_batch
        deadline = time.perf_counter() + TEACHING * self.length.amount
        parts: list[Tensor] = []
        with progress(None, "Teacher", show=self.show_progress, total=self.num_pairs, unit=" images") as bar:
            for first in range(0, most, together):
                parts.append(self.teacher.images(range(first, min(first + together, most))))
                bar.update(len(parts[-1]))
                if self.num_pairs is None and time.perf_counter() >= deadline:
                    break
        return torch.cat(parts)

    def _check_time(self, done: Progress) -> None:
        """Refuse a run in which the teacher has left no time for the student."""
        if not done.global_step and done.seconds >= self.length.amount:
            raise InputError(
                f"the teacher's images took {duration(done.seconds)} of {self.length}: give more time "
                "or fewer pairs. The images are kept"
            )

    def _most(self) -> int:
        """Return how many pairs fit into memory, with the copies that are made of them."""
        a_pair = 4 * 4 * math.prod(self.teacher.sampler.model.image_shape)
        return max(self.batch_size, min(MOST, int(MEMORY * free_bytes("cpu")) // a_pair))

    def _check_folder(self, *, overwrite: bool) -> None:
        """Refuse a folder that holds another run, or remove that run."""
        check_writable(self.folder)
        pairs = self.folder / NAME
        there = [*newest_first(self.folder), *(pairs,) * pairs.exists()]
        if overwrite:
            for path in (*there, self.folder / "logs" / "metrics.csv", self.folder / PICTURE):
                path.unlink(missing_ok=True)
        elif pairs.exists():
            read_images(pairs, self.about)
        elif there:
            raise InputError(
                f"{there[0]} is there already, and no teacher's images beside it: take another folder "
                "(--out), or remove what is there (--overwrite)"
            )
