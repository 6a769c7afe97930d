"""Thirty images of a class: from nothing, and from what was trained on another vendor's emoji.

The emoji are cut into halves by what they show. A network is pretrained on Twitter's drawings of the first
half, and tuned on 30 images of a class of Google's drawings of the same half. What it generates is compared
with Google's drawings of the second half, which no network has seen by any vendor. Every run has a fixed CPU
time on one thread. ``make bench-transfer`` pretrains for 20 minutes and tunes for 5; ``--only`` runs some.
Rows, checkpoints and images are written into ``--out``, and a pretrained network that is there is used again.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from eyes import package
from PIL import Image
from recipes import changed, recipe_for, save_as_folders, training

from snowmelt import Checkpoint, DiffusionSampler, DiffusionTrainer
from snowmelt.evaluation import Features, TensorSource, extract_features, make_extractor
from snowmelt.evaluation.answers.novelty import novelty
from snowmelt.evaluation.answers.usefulness import usefulness
from snowmelt.evaluation.metrics import c2st, kid
from snowmelt.files import atomic_write
from snowmelt.images import from_uint8, save_grid, to_uint8

SIDE, A_CLASS, MADE = 32, 30, 60  # pixels, tuning images of a class, generated images of a class
METHOD, GUIDANCE = "dpmpp_2m:12", 2.0
CLASSIFIER_STEPS = 100  # of 64 images: 27 passes over the few
# What tuning is told of its start; None starts from nothing
ARMS: dict[str, dict[str, Any] | None] = {
    "from nothing": None,
    "tuned": {},
    "tuned, way down frozen": {"freeze": ["conv_in", "down_blocks"]},
    "tuned, way down at a tenth of the rate": {"rates": {"conv_in": 0.1, "down_blocks": 0.1}},
    "tuned, way down from the middle on": {"unfreeze": {"conv_in": 0.5, "down_blocks": 0.5}},
}
ALONE, LONG = "pretrained alone", "from nothing, with the time of both"


def emoji(vendor: str) -> TensorSource:
    """Return a vendor's emoji on white, in the categories that both vendors have drawn."""
    folders = {each: package(f"emoji-datasource-{each}@16.0.0") for each in ("twitter", "google")}
    known = json.loads((folders[vendor] / "emoji.json").read_text())
    paths = {
        each["image"]: [folder / "img" / name / "64" / each["image"] for name, folder in folders.items()]
        for each in known
    }
    shared = [each for each in known if all(path.exists() for path in paths[each["image"]])]
    names = sorted({each["category"] for each in shared})
    images = []
    for each in shared:
        picture = Image.open(folders[vendor] / "img" / vendor / "64" / each["image"]).convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        images.append(np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    labels = [names.index(each["category"]) for each in shared]
    names = [name.replace(" ", "") for name in names]  # as folders are called
    return TensorSource(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), labels, names)


def parts() -> tuple[TensorSource, TensorSource, TensorSource]:
    """Return what is pretrained on, what is tuned on, and what nobody sees.

    The last two are in those classes that have enough images.
    """
    twitter, google = emoji("twitter"), emoji("google")
    assert google.labels is not None
    assert google.class_names is not None
    order = torch.randperm(len(google), generator=torch.Generator().manual_seed(0))
    first, second = order.chunk(2)
    of_first, of_second = google.labels[first], google.labels[second]
    enough = [k for k in range(len(google.class_names)) if (of_first == k).sum() >= 2 * A_CLASS]
    few = torch.cat([first[of_first == k][:A_CLASS] for k in enough])
    rest = second[torch.isin(of_second, torch.tensor(enough))]
    names = [google.class_names[k] for k in enough]
    of_google = [
        TensorSource(google.images[rows], [enough.index(int(k)) for k in google.labels[rows]], names)
        for rows in (few, rest)
    ]
    return TensorSource(twitter.images[first], of_first, twitter.class_names), *of_google


def train(config: dict[str, Any], minutes: float, folder: Path) -> DiffusionTrainer:
    """Train for some minutes of CPU time."""
    *_, trainer = training(config, minutes, folder)
    return trainer


class Judge:
    """Measures what a sampler makes.

    Args:
        tuned_on: the few images.
        unseen: those that nobody sees.
        useful: train classifiers too, which takes minutes for each run.

    `like_few` are the figures of the few images themselves.
    """

    def __init__(self, tuned_on: TensorSource, unseen: TensorSource, *, useful: bool) -> None:
        self.useful = useful
        self.few, self.unseen, self.extractor = tuned_on, unseen, make_extractor("imagenet")
        self.of_few, self.of_unseen = (extract_features(each, self.extractor) for each in (tuned_on, unseen))
        self.like_few = self._distances(self.of_few)

    def _distances(self, features: Features) -> dict[str, float]:
        news = novelty(features, self.of_few, self.of_unseen)
        return {
            "c2st": c2st(features, self.of_unseen).value,
            "kid x 100": 100 * kid(features, self.of_unseen, subsets=20).value,
            "nearest": news.distances.median().item(),
            "copies": news.copy_rate.value,
        }

    def __call__(self, made: TensorSource) -> dict[str, float]:
        """Return the figures of generated images."""
        figures = self._distances(extract_features(made, self.extractor))
        if not self.useful:
            return figures
        useful = usefulness(
            made, self.few, self.unseen, extractor=self.extractor, seeds=range(3), steps=CLASSIFIER_STEPS
        )
        gain = useful.gain.balanced_accuracy
        return {**figures, "useful": gain.value, "useful from": gain.low, "useful to": gain.high}


def sampled(model: Checkpoint, wanted: Sequence[str]) -> TensorSource:
    """Return as many generated images of each of these classes."""
    assert model.class_names is not None
    labels = [label for label in range(len(wanted)) for _ in range(MADE)]
    of_model = [model.class_names.index(wanted[label]) for label in labels]
    sampler = DiffusionSampler.from_pretrained(model, method=METHOD)
    made = sampler.sample(len(labels), of_model, guidance_scale=GUIDANCE, seeds=range(len(labels)))
    return TensorSource(to_uint8(made), labels, wanted)


def runs(
    names: Sequence[str], config: dict[str, Any], arguments: argparse.Namespace, folder: Path
) -> Iterator[tuple[str, float, Checkpoint]]:
    """Yield each run's name, its minutes and what it has trained."""
    start = arguments.out / f"pretrained_{arguments.pretrain:g}.pth"
    if not start.exists():
        train(config, arguments.pretrain, folder).checkpoint().write(start)
    for name in names:
        if name == ALONE:
            yield name, arguments.pretrain, Checkpoint.read(start)
            continue
        tuning = changed(config, {"data.paths.train": str(folder / "few")})
        if (init := ARMS.get(name)) is not None:
            tuning = changed({**tuning, "model": {}}, {"training.init": {"path": str(start), **init}})
        minutes = arguments.tune + arguments.pretrain * (name == LONG)
        trained = train(tuning, minutes, folder).checkpoint()
        trained.write(arguments.out / f"{name}.pth")
        yield name, minutes, trained


def main() -> None:
    """Run the arms, write rows as they come, and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pretrain", type=float, default=20.0, help="minutes of CPU time")
    parser.add_argument("--tune", type=float, default=5.0, help="minutes of CPU time")
    parser.add_argument("--only", nargs="*", default=[ALONE, *ARMS, LONG], choices=[ALONE, *ARMS, LONG])
    parser.add_argument("--no-usefulness", action="store_true", help="train no classifiers")
    parser.add_argument("--out", type=Path, default=Path("outputs/transfer"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    large, few, unseen = parts()
    judge = Judge(few, unseen, useful=not arguments.no_usefulness)
    rows: list[dict[str, Any]] = [{"run": "the tuning images", "minutes": 0.0, **judge.like_few}]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, source in (("large", large), ("few", few)):
            save_as_folders(source, folder / name)
        config = recipe_for(folder / "large")
        for name, minutes, trained in runs(arguments.only, config, arguments, folder):
            made = sampled(trained, few.class_names or ())
            save_grid(from_uint8(made.images[:: MADE // 10]), arguments.out / f"{name}.png", nrow=10)
            rows.append({"run": name, "minutes": minutes, **judge(made)})
            print(json.dumps(rows[-1]), flush=True)
            with atomic_write(arguments.out / "transfer.csv", "w") as file:
                writer = csv.DictWriter(file, list(rows[-1]), restval="")
                writer.writeheader()
                writer.writerows(rows)
    print(table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    heads = list(rows[-1])
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    for row in rows:
        values = [row.get(head, "") for head in heads]
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in values]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
