"""Time to quality: what each ingredient of the recipe of ``snowmelt train DATA --budget`` gives.

Every run has the same CPU time, on one thread. Its schedules follow that time. At some moments of it, images
are generated and measured: KID x 100 beside the training images, with guidance 2, from the same seeds, beside
what real images and blurred ones read. Besides the recipe and the plain one there is a run for each
ingredient, which is left out. ``make bench-recipes`` runs all of them on emoji, for 20 minutes each, which
takes hours; ``--only recipe plain`` runs some. Rows, curves and images are written into ``--out``.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from eyes import emoji
from matplotlib.figure import Figure

from snowmelt import DiffusionSampler, DiffusionTrainer
from snowmelt.config import load_config
from snowmelt.evaluation import Features, TensorSource, extract_features, make_extractor
from snowmelt.evaluation.ladder.spoiling import SPOILINGS
from snowmelt.evaluation.metrics import kid
from snowmelt.files import atomic_write
from snowmelt.formats import ImageSource, open_images
from snowmelt.images import encode_png, from_uint8, save_grid, to_uint8
from snowmelt.models import ModelSpec
from snowmelt.training.length import Length
from snowmelt.training.proposal import Look, propose
from snowmelt.training.run import TrainingRun

IMAGES = 400
MARKS = (0.25, 0.5, 1.0)
METHOD = "dpmpp_2m:12"
CPU = torch.device("cpu")

PLAIN = {
    "model.architecture.patch_size": 1,
    "model.diffusion.parameterization": "v",
    "training.loss.weighting": "uniform",
    "training.optimizer": {"type": "adam", "learning_rate": 1e-4},
    "training.scheduler": {"type": "none", "warmup": 0},
    "training.ema": {"decay": 0.9999},
    "data.loading.batch_size": 64,
}
FIXED = {"training.scheduler.warmup": 1000, "data.loading.batch_size": 16, "compute.precision": "fp32"}
# What is changed of the recipe. The plain one is what most examples do, with the same channels
RECIPES: dict[str, dict[str, Any]] = {
    "recipe": {},
    "plain": PLAIN,
    "predicts v": {"model.diffusion.parameterization": "v", "training.loss.weighting": "uniform"},
    "uniform weights": {"training.loss.weighting": "uniform"},
    "weights of min_snr": {"training.loss.weighting": "min_snr"},
    "no patches": {"model.architecture.patch_size": 1},
    "batches of 64": {"data.loading.batch_size": 64},
    "constant rate": {"training.scheduler": {"type": "none", "warmup": 0}},
    "adam": {"training.optimizer": {"type": "adam", "learning_rate": 1e-3, "betas": [0.9, 0.99]}},
    "rate of 1e-3": {"training.optimizer.learning_rate": 1e-3},
    "average of 0.9999": {"training.ema": {"decay": 0.9999}},
    "attention": {"model.architecture.use_attention": 8},
    "uncertainty": {"training.loss.uncertainty": True},
}


def changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with some of its keys changed."""
    copy = json.loads(json.dumps(config))
    for key, value in changes.items():
        *path, last = key.split(".")
        section = copy
        for name in path:
            section = section.setdefault(name, {})
        section[last] = value
    return copy


class Judge:
    """Measures generated images beside the real ones.

    Args:
        real: the training images.
    """

    def __init__(self, real: ImageSource) -> None:
        self.extractor = make_extractor("imagenet")
        self.features = extract_features(real, self.extractor)
        counts = real.labels.bincount() if real.labels is not None else torch.tensor([len(real)])
        exact = counts / len(real) * IMAGES
        self.labels = torch.arange(len(counts)).repeat_interleave(exact.round().long()).tolist()
        order = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
        half = len(real) // 2
        halves = [Features(self.features.values[part]) for part in (order[:half], order[half:])]
        blurred = TensorSource(SPOILINGS["blur"](real.take(order[:IMAGES].tolist())))
        self.scale = {"real images": self._kid(*halves), "blurred": self(blurred)}

    def __call__(self, images: ImageSource) -> float:
        """Return KID x 100."""
        return self._kid(extract_features(images, self.extractor), self.features)

    @staticmethod
    def _kid(first: Features, second: Features) -> float:
        return 100 * kid(first, second, subsets=20).value


def run(
    name: str, config: dict[str, Any], minutes: float, judge: Judge, folder: Path
) -> Iterator[dict[str, Any]]:
    """Train for some minutes of CPU time, and yield a row at each mark."""
    marks = list(MARKS)
    for trainer in training(config, minutes, folder):
        if trainer.share >= marks[0]:
            images, done = sampled(trainer.sampler, judge), trainer.progress
            grid = from_uint8(images[:: len(images) // 50])
            save_grid(grid, folder / f"{name}_{marks[0]}.png", nrow=10)
            row = {"recipe": name, "minutes": done.seconds / 60, "images": done.images}
            yield {**row, "kid": judge(TensorSource(images))}
            marks.pop(0)


def training(config: dict[str, Any], minutes: float, folder: Path) -> Iterator[DiffusionTrainer]:
    """Train for some minutes of CPU time, and yield the trainer after each step.

    What the caller does then is not counted.
    """
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    trainer = TrainingRun(load_config(path), CPU).trainer
    trainer.length = Length.of(seconds=60 * minutes)
    while True:
        began = time.process_time()
        for _ in trainer.steps():
            trainer.progress.seconds += time.process_time() - began
            yield trainer
            if trainer.share >= 1:
                return
            began = time.process_time()
        trainer.progress.end_epoch()


def recipe_for(folder: Path) -> dict[str, Any]:
    """Return the recipe for images on a machine whose right network is the narrowest of their own size."""
    proposal = propose(Look.at(str(folder)), "1h", CPU, lambda spec, *_: 40.0 * (_width(spec) == 32))
    return changed(dict(proposal.config), {"training.visualization.enabled": False, **FIXED})


def sampled(sampler: DiffusionSampler, judge: Judge) -> torch.Tensor:
    """Return generated images (N, C, H, W) uint8, in classes as frequent as those of the real ones."""
    made = sampler.with_method(METHOD).sample(
        len(judge.labels), judge.labels, guidance_scale=2.0, seeds=range(len(judge.labels))
    )
    return to_uint8(made)


def _width(spec: ModelSpec) -> int:
    return int(spec.network_options["model_channels"])


def save_as_folders(source: ImageSource, folder: Path) -> None:
    """Write images as PNG files, one folder for each class."""
    names, labels = source.class_names or ["all"], source.labels
    for index in range(len(source)):
        place = folder / names[int(labels[index]) if labels is not None else 0].replace(" ", "")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index}.png").write_bytes(encode_png(source.take([index])[0]))


def draw(rows: list[dict[str, Any]], scale: dict[str, float], path: Path) -> None:
    """Draw KID over CPU time, a line for each recipe."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["recipe"] for row in rows):
        points = [(row["minutes"], row["kid"]) for row in rows if row["recipe"] == name]
        axes.plot(*zip(*points, strict=True), marker=".", label=name, linewidth=2 if name == "recipe" else 1)
    for name, value in scale.items():
        axes.axhline(value, color="0.6", linestyle=":", linewidth=1)
        place = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "bottom"}
        axes.text(0.99, value, f"{name}: {value:.1f}", fontsize=8, color="0.4", **place)
    axes.set(xlabel="minutes of CPU time, one thread", ylabel="KID x 100", ylim=(0, None))
    axes.legend(fontsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=130)


def table(rows: list[dict[str, Any]], scale: dict[str, float]) -> str:
    """Return the last row of each recipe as Markdown."""
    last = {row["recipe"]: row for row in rows}
    reads = ", ".join(f"{name} read {value:.1f}" for name, value in scale.items())
    lines = [
        f"KID x 100 of {IMAGES} images; {reads}.",
        "",
        "| | CPU minutes | images seen | KID x 100 |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {r['minutes']:.1f} | {r['images']:,} | {r['kid']:.1f} |" for name, r in last.items()),
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the recipes, write rows as they come, and put table and curves into the documentation."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=("emoji", "digits"), default="emoji")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--only", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--out", type=Path, default=Path("outputs/recipes"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    source = emoji() if arguments.data == "emoji" else open_images("digits:train")
    judge = Judge(source)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        save_as_folders(source, Path(folder))
        config = recipe_for(Path(folder))
        for name in arguments.only:
            for row in run(name, changed(config, RECIPES[name]), arguments.minutes, judge, arguments.out):
                print(json.dumps(row), flush=True)
                rows.append(row)
                with atomic_write(arguments.out / f"{arguments.data}.csv", "w") as file:
                    writer = csv.DictWriter(file, list(row))
                    writer.writeheader()
                    writer.writerows(rows)
    print(table(rows, judge.scale))
    draw(rows, judge.scale, arguments.out / f"{arguments.data}.png")


if __name__ == "__main__":
    main()
