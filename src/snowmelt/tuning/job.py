"""The whole job for a checkpoint: noises, a teacher, a plan for each number of evaluations, and the files."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt._version import __version__
from snowmelt.denoisers import Denoiser, eval_mode
from snowmelt.errors import InputError, as_input_errors
from snowmelt.files import check_writable
from snowmelt.images import save_grid
from snowmelt.models import Checkpoint
from snowmelt.plans import Method, Plan, State, last_state, trajectory
from snowmelt.plans.words import lookup
from snowmelt.progress import progress
from snowmelt.sampling import DiffusionSampler, SeededNoise, image_seeds
from snowmelt.sampling.composed import composed
from snowmelt.sampling.tuned_plans import TunedPlan, plans_folder, purpose_of
from snowmelt.text import counted
from snowmelt.tuning.drawing import Curve, draw_curves
from snowmelt.tuning.lesson import Lesson, distance
from snowmelt.tuning.losses import LOSSES
from snowmelt.tuning.teacher import FIRST_STEPS, Teacher, find_teacher, fine_plan
from snowmelt.tuning.tune import METHODS, Progress, Tuned, most_steps, tune
from snowmelt.tuning.untuned import starts

__all__ = ["Job", "Outcome"]

FEW = 32  # noises for the choice of the teacher
TEACHER_SHARE = 0.05  # of a student's distance: an error of the teacher that does not matter
SHOWN = 10  # images in a row of the picture
REFERENCE = "balanced"  # a plan is good enough if it is as near to the teacher as this preset


@dataclass(frozen=True)
class Outcome:
    """What a job has found.

    Attributes:
        teacher: the plan that made the images to reach.
        tolerance: the distance of the preset `REFERENCE` from the teacher.
        tuned: one for each number of evaluations that was reached.
        files: where each is.
        seconds: how long each took, without the teacher.
        interrupted: whether Ctrl-C stopped the job; what was found by then is written.
    """

    teacher: Teacher
    tolerance: float
    tuned: Sequence[Tuned]
    files: Sequence[Path]
    seconds: Sequence[float]
    interrupted: bool

    @property
    def recommended(self) -> int | None:
        """The fewest evaluations whose distance is within the tolerance, if any are."""
        good = [each.plan.nfe for each in self.tuned if each.distance <= self.tolerance]
        return min(good, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return {
            "teacher": {"method": str(self.teacher.method), "error": self.teacher.error},
            "tolerance": self.tolerance,
            "recommended": self.recommended,
            "interrupted": self.interrupted,
            "plans": [
                {
                    "nfe": each.plan.nfe,
                    "untuned": each.start_distance,
                    "tuned": each.distance,
                    "start": str(each.start.method),
                    "seconds": round(seconds, 2),
                    "file": str(file),
                }
                for each, file, seconds in zip(self.tuned, self.files, self.seconds, strict=True)
            ],
        }


@dataclass(frozen=True)
class Job:
    """Plans to be tuned for a checkpoint.

    Args:
        checkpoint: as it was read from its file.
        sampler: of the checkpoint, with guidance and threshold as they will be used.
        nfes: numbers of evaluations, each >= 2.
        guidance_scale: as for `DiffusionSampler.sample`.
        method: a key of `METHODS`.
        loss: a key of `LOSSES`.
        features: what of the images (N, C, H, W) in [-1, 1], after any decoder, is compared in the end; its
            `name`, if it has one, goes into the record. None compares the images, before any decoder.
        num_noises: how many the plans learn from.
        num_held_out: how many others decide what is kept.
        seed: of the noises.
        folder: where the files go; None for the folder beside the checkpoint.
        show_progress: show bars.
    """

    checkpoint: Checkpoint
    sampler: DiffusionSampler
    nfes: Sequence[int] = (4, 6, 8)
    guidance_scale: float = 0.0
    method: str = "table"
    loss: str = "huber"
    features: Callable[[Tensor], Tensor] | None = None
    num_noises: int = 96
    num_held_out: int = 96
    seed: int = 0
    folder: Path | None = None
    show_progress: bool = False

    @property
    def place(self) -> Path:
        """The folder of the files."""
        if self.folder is not None:
            return self.folder
        if self.checkpoint.source is None:
            raise InputError("a checkpoint without a file has no folder beside it: say where the plans go")
        return plans_folder(self.checkpoint.source)

    def check(self) -> None:
        """Check everything that can fail.

        Raises:
            InputError: a value makes no sense, or the folder cannot be written to.
        """
        schedule = self.sampler.model.schedule
        with as_input_errors():
            lookup("method", self.method, METHODS)
            lookup("loss", self.loss, LOSSES)
            if without := [nfe for nfe in self.nfes if nfe < 2 or not starts(schedule, nfe)]:
                raise InputError(
                    "a plan to tune takes 2 evaluations or more, and at most one a trained step: got "
                    f"{without[0]}"
                )
            if self.sampler.plan.stochastic:
                raise InputError(
                    f"tuned plans are deterministic, and {self.sampler.method} draws noise: give the sampler "
                    "a deterministic method, such as balanced"
                )
            check_writable(self.place)
            self.sampler.request(len(self._labels or [0]), self._labels, self.guidance_scale)
            self._denoiser()

    def run(self) -> Outcome:
        """Tune all plans and write each as soon as it is found."""
        with self.ready():
            teacher, lesson = self.lesson()
            held_out = lesson[self.num_noises :]
            tolerance = held_out.distance(Method(preset=REFERENCE).plan(lesson.schedule))
            tuned: list[Tuned] = []
            files: list[Path] = []
            seconds: list[float] = []
            for nfe in sorted(set(self.nfes)):
                began = time.perf_counter()
                tuned.append(self._tune(lesson[: self.num_noises], held_out, nfe))
                seconds.append(time.perf_counter() - began)
                files.append(self._write(tuned[-1], teacher, tolerance))
                self._draw(tuned[-1], held_out[:SHOWN], files[-1].with_suffix(".png"))
                if tuned[-1].interrupted:
                    break
            outcome = Outcome(teacher, tolerance, tuned, files, seconds, tuned[-1].interrupted)
            self._draw_curves(outcome, held_out)
        return outcome

    @cached_property
    def _labels(self) -> list[int] | None:
        classes = self.sampler.model.num_classes
        total = self.num_noises + self.num_held_out
        return [place % classes for place in range(total)] if classes else None

    @contextmanager
    def ready(self) -> Generator[None]:
        """Return a context in which the network has the weights of sampling, and no gradient is kept."""
        sampler = self.sampler
        with sampler.averaged(sampler.ema is not None), eval_mode(sampler.networks()), torch.no_grad():
            yield

    def lesson(self) -> tuple[Teacher, Lesson]:
        """Return the teacher, and all noises with its images; within `ready`."""
        sampler, schedule = self.sampler, self.sampler.model.schedule
        seeds = image_seeds(self.seed, self.num_noises + self.num_held_out)
        labels = torch.tensor(self._labels, device=sampler.device) if self._labels else None
        few = Method("ipndm", max(self.nfes), "tuned").plan(schedule)
        noise = few.prior_std * SeededNoise(seeds, sampler.model.image_shape, sampler.device)()
        lesson = Lesson(self._denoiser(), schedule, noise, labels, torch.empty_like(noise))
        teacher = self._teacher(lesson[:FEW], few)
        parts = list(lesson.parts(sampler.micro_batch))
        bar = progress(parts, "The teacher's images", show=self.show_progress, unit="batch", leave=False)
        images = torch.cat([part.run(teacher.plan) for part in bar])
        features = self._features if self.features is not None else None
        return teacher, replace(lesson, images=images).through(features, sampler.micro_batch)

    def _teacher(self, lesson: Lesson, student: Plan) -> Teacher:
        """Return a plan beside whose error that of `student` is large."""
        with progress(
            None, "Looking for a teacher", show=self.show_progress, unit=" evaluations", leave=False
        ) as bar:

            @cache
            def run(plan: Plan) -> Tensor:
                return last_state(counted_states(plan))

            def counted_states(plan: Plan) -> Iterator[State]:
                for state in trajectory(plan, lesson.denoiser, lesson.noise, lesson.class_labels):
                    bar.update()
                    yield state

            wanted = TEACHER_SHARE * distance(run(student), run(fine_plan(lesson.schedule, FIRST_STEPS).plan))
            return find_teacher(lesson.schedule, run, wanted)

    def _features(self, x0: Tensor) -> Tensor:
        """Return the features of last states, whatever a plan has made of them."""
        assert self.features is not None
        return self.features(self.sampler.decoded(x0, padded=False).clamp(-1, 1))

    def _denoiser(self) -> Denoiser:
        """Return the guided network; guidance that depends on the plan has no meaning for a table."""
        plan = Method("dpmpp_2m", 2).plan(self.sampler.model.schedule)
        return composed(self.sampler, plan, self.guidance_scale, padded=False)

    def _tune(self, lesson: Lesson, held_out: Lesson, nfe: int) -> Tuned:
        what, total = counted(nfe, "evaluation"), most_steps(self.method, self.features is not None)
        with progress(None, what, show=self.show_progress, total=total, unit="step") as bar:

            def report(step: Progress) -> None:
                bar.set_postfix_str(f"{step.stage}, distance {step.held_out:.4f}", refresh=False)
                bar.update()

            return tune(
                lesson,
                held_out,
                nfe,
                self.method,
                loss=self.loss,
                report=report,
            )

    def _write(self, tuned: Tuned, teacher: Teacher, tolerance: float) -> Path:
        purpose = purpose_of(self.sampler, self.checkpoint.digest, self.guidance_scale)
        provenance: Mapping[str, Any] = {
            "teacher": str(teacher.method),
            "teacher_error": teacher.error,
            "start": str(tuned.start.method),
            "method": self.method,
            "loss": self.loss,
            "features": getattr(self.features, "name", None) if self.features is not None else "images",
            "seed": self.seed,
            "noises": [self.num_noises, self.num_held_out],
            "curve": [step._asdict() for step in tuned.curve],
            "interrupted": tuned.interrupted,
            "snowmelt": __version__,
        }
        found = TunedPlan(tuned.plan, purpose, tuned.distance, tuned.start_distance, tolerance, provenance)
        return found.write(self.place)

    def _draw(self, tuned: Tuned, shown: Lesson, path: Path) -> None:
        """Write a picture: the same noises by the start, by the tuned plan and by the teacher."""
        states = [shown.run(tuned.start.plan), shown.run(tuned.plan), shown.images]
        images = self.sampler.images(torch.cat(states), padded=False)
        save_grid(images, path, nrow=len(shown))

    def _draw_curves(self, outcome: Outcome, held_out: Lesson) -> None:
        nfes = [each.plan.nfe for each in outcome.tuned]
        draw_curves(
            [
                Curve("the best untuned plan", nfes, [each.start_distance for each in outcome.tuned]),
                Curve(f"tuned: {self.method}", nfes, [each.distance for each in outcome.tuned]),
            ],
            outcome.tolerance,
            REFERENCE,
            self.place / f"guidance{self.guidance_scale:g}.png",
        )
