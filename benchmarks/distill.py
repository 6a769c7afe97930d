"""What a few-step student is worth: beside its teacher, and beside the best untuned plans of few evaluations.

On the demo's network and real digits, with guidance 2: KID and C2ST of generated images beside the training
images, with 95 % intervals, and the CPU seconds of a thousand images, on one thread. The best untuned plan of
a number of evaluations is the one whose images are nearest to the teacher's, of the same noise. ``make demo``
trains the network, and ``make bench-distill`` takes minutes. Rows, checkpoint and a picture are
written into ``--out``; a student that is there is measured again. ``--tuned`` measures plans that are made
for the checkpoint, too.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt import Checkpoint, DiffusionSampler
from snowmelt.distillation import Distillation, Teacher
from snowmelt.evaluation import Features, TensorSource, extract_features, make_extractor
from snowmelt.evaluation.metrics import c2st, kid
from snowmelt.files import atomic_write
from snowmelt.formats import open_images
from snowmelt.images import to_uint8
from snowmelt.sampling import image_seeds
from snowmelt.training.length import Length

GUIDANCE, STEPS = 2.0, (1, 2, 4)
UNTUNED = (
    "ddim:{}",
    "dpmpp_2m:{}",
    "unipc:{}",
    "unipc:{} order=3 grid=tuned",
    "ipndm:{} order=3 grid=tuned",
    "dpmpp_2m:{} grid=tuned",
    "dpmpp_2m:{} grid=karras",
)


class Judge:
    """Measures generated digits beside the real ones.

    Args:
        images: how many are made, as many of each class.
    """

    def __init__(self, images: int) -> None:
        self.labels = (torch.arange(images) % 10).tolist()
        self.seeds = image_seeds(1, images)
        self.extractor = make_extractor("imagenet")
        self.real, self.held_out = (
            extract_features(open_images(f"digits:{part}"), self.extractor) for part in ("train", "test")
        )

    def made(self, sampler: DiffusionSampler, scale: float) -> tuple[Tensor, float]:
        """Return images, and the CPU seconds of a thousand of them."""
        began = time.process_time()
        images = sampler.sample(len(self.seeds), self.labels, scale, seeds=self.seeds)
        return images, (time.process_time() - began) / len(images) * 1000

    def row(self, name: str, evaluations: int | str, features: Features, seconds: float) -> dict[str, Any]:
        """Return what is known of some images."""
        found = {"kid": kid(features, self.real, subsets=20), "c2st": c2st(features, self.real)}
        numbers = {
            f"{metric}{end}": getattr(each, part)
            for metric, each in found.items()
            for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
        }
        return {"name": name, "evaluations": evaluations, **numbers, "seconds": seconds}

    def measured(
        self, name: str, evaluations: int, sampler: DiffusionSampler, scale: float
    ) -> dict[str, Any]:
        """Make images and return what is known of them."""
        images, seconds = self.made(sampler, scale)
        source = TensorSource(to_uint8(images), self.labels)
        return self.row(name, evaluations, extract_features(source, self.extractor), seconds)


def best_untuned(teacher: DiffusionSampler, steps: int, judge: Judge, truth: Tensor) -> str:
    """Return the plan of so many evaluations whose images are nearest to `truth`."""
    errors = {}
    for method in (text.format(steps) for text in UNTUNED):
        try:
            sampler = teacher.with_method(method)
        except ValueError:  # a grid without so few steps
            continue
        if sampler.plan.nfe == steps:
            errors[method] = (judge.made(sampler, GUIDANCE)[0] - truth).square().mean().item()
    return min(errors, key=lambda method: errors[method])


def rows(
    checkpoint: Path, out: Path, images: int, pairs: int, seen: int, tuned: list[Path]
) -> Iterator[dict[str, Any]]:
    """Distil, and yield a row for each way to make images."""
    judge = Judge(images)
    yield judge.row("held-out digits", "", judge.held_out, 0.0)
    sampler = DiffusionSampler.from_pretrained(checkpoint)
    quality = sampler.with_method("quality")
    yield judge.measured("teacher, quality", quality.plan.nfe, quality, GUIDANCE)
    truth, _ = judge.made(quality, GUIDANCE)

    teacher = Teacher(Checkpoint.read(checkpoint), GUIDANCE)
    yield judge.measured(
        f"teacher, {teacher.sampler.method}", teacher.sampler.plan.nfe, teacher.sampler, GUIDANCE
    )
    began = time.process_time()
    student = Distillation(teacher, out, STEPS, Length.of(images=seen), pairs=pairs).run()
    print(f"distilled in {time.process_time() - began:.0f} CPU seconds", flush=True)
    students = DiffusionSampler.from_pretrained(student)
    for steps in STEPS:
        yield judge.measured(f"student, {steps}", steps, students.with_method(f"ddim:{steps}"), 0.0)
    for steps in STEPS:
        method = best_untuned(sampler, steps, judge, truth)
        yield judge.measured(f"untuned, {method}", steps, sampler.with_method(method), GUIDANCE)
    for path in tuned:
        with_table = sampler.with_method(str(path))
        yield judge.measured(f"tuned, {path.stem}", with_table.plan.nfe, with_table, GUIDANCE)


def table(found: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| | evaluations | KID x 100 | C2ST | CPU seconds for 1000 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in found:
        of_kid = "{:.2f} ({:.2f} to {:.2f})".format(
            *(100 * row[f"kid{end}"] for end in ("", "_low", "_high"))
        )
        of_c2st = "{:.2f} ({:.2f} to {:.2f})".format(*(row[f"c2st{end}"] for end in ("", "_low", "_high")))
        seconds = f"{row['seconds']:.1f}" if row["seconds"] else ""
        lines.append(f"| {row['name']} | {row['evaluations']} | {of_kid} | {of_c2st} | {seconds} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write rows as they come, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path("outputs/digits/checkpoints/best_model.pth")
    parser.add_argument("--checkpoint", type=Path, default=default)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=8192)
    parser.add_argument("--seen", type=int, default=300_000, help="images that the student learns from")
    parser.add_argument("--out", type=Path, default=Path("outputs/distill"))
    parser.add_argument("--tuned", type=Path, nargs="*", default=[], help="plans, as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for row in rows(**vars(arguments)):
        print(row, flush=True)
        found.append(row)
        with atomic_write(arguments.out / "rows.csv", "w") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows(found)
    print(table(found))


if __name__ == "__main__":
    main()
