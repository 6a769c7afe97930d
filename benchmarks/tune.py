"""How near tuned plans come to the teacher, on noises that they have not seen: ``make bench-tune``.

For each number of evaluations, the best untuned plan and the stages of `snowmelt tune` are measured on fresh
noises and labels: distance from the teacher, its ratio to the untuned plan's, and the processor seconds by
the end of each stage, which goes on from where the one before it has arrived. KID says what the distance
means for images. It compares with real images: those of the teacher, of the best untuned plan, of the tuned
table and of the table that features have decided, with 95 % intervals.

    python benchmarks/tune.py                                  the demo's network (make demo)
    python benchmarks/tune.py --checkpoint emoji.pth --real emoji/ --nfe 6 --fresh 64
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from snowmelt import Checkpoint, DiffusionSampler
from snowmelt.evaluation import TensorSource, extract_features, make_extractor
from snowmelt.evaluation.features.smooth import smooth_features
from snowmelt.evaluation.metrics import kid
from snowmelt.formats import ImageSource, open_images
from snowmelt.images import to_uint8
from snowmelt.plans import Plan
from snowmelt.tuning import Job, Lesson, Progress, Tuned, tune

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "outputs" / "digits" / "checkpoints" / "best_model.pth"
FRESH_SEED = 1000
JUDGED = ("table", "features")


def fresh_lesson(job: Job, count: int) -> Lesson:
    """Return noises that no plan was tuned on, with the teacher's images."""
    return replace(job, num_noises=count, num_held_out=0, seed=FRESH_SEED).lesson()[1]


def measure(job: Job, fresh: int) -> tuple[Plan, dict[int, Tuned]]:
    """Print a line for each number of evaluations and stage; return the teacher and what was found."""
    found: dict[int, Tuned] = {}
    with job.ready():
        teacher, lesson = job.lesson()
        unseen = fresh_lesson(job, fresh)
        in_pixels = unseen.through(None, fresh)
        for nfe in job.nfes:
            began, ended = time.process_time(), dict[str, float]()

            def clock(step: Progress, began: float = began, ended: dict[str, float] = ended) -> None:
                ended[step.stage] = round(time.process_time() - began, 1)

            parts = lesson[: job.num_noises], lesson[job.num_noises :]
            tuned = tune(*parts, nfe, "table", loss=job.loss, report=clock)
            untuned = in_pixels.distance(tuned.start.plan)
            for stage, plan in tuned.stages.items():
                now = in_pixels.distance(plan)
                figures = {"untuned": untuned, "tuned": now, "ratio": now / untuned}
                if job.features is not None:
                    figures["ratio_of_features"] = unseen.distance(plan) / unseen.distance(tuned.start.plan)
                line = {"nfe": nfe, "stage": stage, **{k: round(v, 4) for k, v in figures.items()}}
                line |= {"cpu_seconds": ended[stage], "start": str(tuned.start.method)}
                print(json.dumps(line), flush=True)
            found[nfe] = tuned
    return teacher.plan, found


def kids(job: Job, plans: dict[str, Plan], real: ImageSource, count: int) -> None:
    """Print the KID of what each plan makes of the same seeds and labels."""
    labels = [place % (job.sampler.model.num_classes or 1) for place in range(count)]
    given = labels if job.sampler.model.num_classes else None
    extractor = make_extractor("imagenet")
    reference = extract_features(real, extractor)
    for name, plan in plans.items():
        made = job.sampler.with_method(plan).sample(
            count, given, job.guidance_scale, seeds=range(FRESH_SEED, FRESH_SEED + count)
        )
        images = TensorSource(to_uint8(made).cpu(), labels)
        value = kid(extract_features(images, extractor), reference, subset_size=500)
        figures = {"kid": value.value, "low": value.low, "high": value.high}
        print(json.dumps({"plan": name, **{k: round(v, 5) for k, v in figures.items()}}), flush=True)


def main() -> None:
    """Measure one network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=DEMO)
    parser.add_argument("--real", default="digits:test", help="images for KID")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--nfe", type=int, nargs="+", default=[4, 5, 6, 8])
    parser.add_argument("--loss", default="huber")
    parser.add_argument("--features", default="imagenet", help="of the last stage; pixels leaves it out")
    parser.add_argument("--noises", type=int, default=96, help="to learn from, and as many to decide")
    parser.add_argument("--fresh", type=int, default=256, help="noises to measure on")
    parser.add_argument("--images", type=int, default=1000, help="for KID; 0 leaves it out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = Checkpoint.read(given.checkpoint)
    sampler = DiffusionSampler.from_pretrained(checkpoint, method="balanced")
    job = Job(
        checkpoint,
        sampler,
        given.nfe,
        given.guidance,
        loss=given.loss,
        features=None if given.features == "pixels" else smooth_features(given.features),
        num_noises=given.noises,
        num_held_out=given.noises,
    )
    teacher, found = measure(job, given.fresh)
    if given.images:
        plans = {"teacher": teacher}
        for nfe, at in found.items():
            plans[f"untuned {nfe}"] = at.start.plan
            plans |= {f"{stage} {nfe}": plan for stage, plan in at.stages.items() if stage in JUDGED}
        kids(job, plans, open_images(given.real), given.images)


if __name__ == "__main__":
    main()
