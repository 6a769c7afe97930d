"""What a metric costs from ready features, beside its peers: ``make bench-eval``.

FID, KID (100 subsets of 1,000) and precision with recall (k = 3) of 10,000 images with 2,048 features each,
by snowmelt, torch-fidelity and torchmetrics (which has no precision and recall). Each run is a process of its
own, in turn, with one thread; what counts is its CPU time, which other work on the machine moves less than
the clock. Ours give intervals, too; the time is with them. Memory is what the process grew by, beyond the
libraries and the features.

Goal: no slower than the faster peer, in the median of the runs. With ``--large``, the memory of precision and
recall of 50,000 beside 50,000 images is measured too, at fewer features for the sake of time: blocks have a
fixed budget, so beside the features themselves it hardly grows with either number.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["main"]

GOAL = 1.0
IMAGES, DIMENSIONS = 10_000, 2048
LARGE, LARGE_DIMENSIONS = 50_000, 128
Way = Callable[[Tensor, Tensor], dict[str, float]]


class Identity(torch.nn.Module):
    """Stands for torchmetrics' network: the features are ready."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def ours(metric: str) -> Way:
    """Return what snowmelt computes."""
    from snowmelt.evaluation import METRICS, Features

    def run(generated: Tensor, real: Tensor) -> dict[str, float]:
        sets = Features(generated), Features(real)
        names = ["precision", "recall"] if metric == "precision_recall" else [metric]
        return {name: METRICS[name](*sets).value for name in names}

    return run


def torch_fidelity(metric: str) -> Way:
    """Return what torch-fidelity computes, with its defaults."""
    from torch_fidelity import metric_fid, metric_kid, metric_prc

    def fid(generated: Tensor, real: Tensor) -> dict[str, float]:
        first, second = (metric_fid.fid_features_to_statistics(each) for each in (generated, real))
        return {"fid": metric_fid.fid_statistics_to_metric(first, second, False)[metric_fid.KEY_METRIC_FID]}

    def kid(generated: Tensor, real: Tensor) -> dict[str, float]:
        found = metric_kid.kid_features_to_metric(generated, real, verbose=False)
        return {"kid": found[metric_kid.KEY_METRIC_KID_MEAN]}

    def precision_recall(generated: Tensor, real: Tensor) -> dict[str, float]:
        found = metric_prc.prc_features_to_metric(generated, real, verbose=False)
        return {name: found[name] for name in ("precision", "recall")}

    return {"fid": fid, "kid": kid, "precision_recall": precision_recall}[metric]


def torchmetrics(metric: str) -> Way:
    """Return what torchmetrics computes."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    def run(generated: Tensor, real: Tensor) -> dict[str, float]:
        peer = FrechetInceptionDistance if metric == "fid" else KernelInceptionDistance
        found = peer(feature=Identity(real.shape[1]))
        found.update(real, real=True)
        found.update(generated, real=False)
        result = found.compute()
        return {metric: float(result if metric == "fid" else result[0])}

    return run


LIBRARIES = {"snowmelt": ours, "torch-fidelity": torch_fidelity, "torchmetrics": torchmetrics}
ROWS = {
    "fid": list(LIBRARIES),
    "kid": list(LIBRARIES),
    "precision_recall": ["snowmelt", "torch-fidelity"],
}


def features(images: int, dimensions: int, seed: int) -> np.ndarray:
    """Return features as networks give them: a few strong directions and many weak ones."""
    random = np.random.default_rng(seed)
    scales = 1 / np.sqrt(1 + np.arange(dimensions))
    drawn: np.ndarray = (random.standard_normal((images, dimensions)) + 0.02 * seed) * scales
    return drawn.astype(np.float32)


def measure_here(library: str, metric: str, folder: Path) -> None:
    """Run one way in this process and print what it took."""
    generated, real = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("generated", "real"))
    run = LIBRARIES[library](metric)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, started = time.process_time(), time.perf_counter()
    values = run(generated, real)
    seconds, passed = time.process_time() - start, time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"values": values, "seconds": seconds, "passed": passed, "memory": grown, "peak": peak}))


def measure(library: str, metric: str, folder: Path) -> dict[str, float]:
    """Run one way in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--measure", library, metric, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    measured: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return measured


def save(folder: Path, images: int, dimensions: int) -> None:
    """Write the two sets of features."""
    for seed, name in enumerate(("real", "generated")):
        np.save(folder / f"{name}.npy", features(images, dimensions, seed))


def compare(runs: int, images: int, dimensions: int) -> bool:
    """Print a table; return whether the goal is met."""
    met = True
    print(f"{images:,} images beside {images:,}, {dimensions:,} features")
    print(f"{'metric':17} {'library':15} {'CPU s':>8} {'ours / it':>10} {'clock s':>8} {'MiB':>7}  values")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder, images, dimensions)
        for metric, libraries in ROWS.items():
            rounds = [
                {library: measure(library, metric, folder) for library in libraries} for _ in range(runs)
            ]
            ratios = {}
            for library in libraries:
                seconds = statistics.median(each[library]["seconds"] for each in rounds)
                ratios[library] = statistics.median(
                    each["snowmelt"]["seconds"] / each[library]["seconds"] for each in rounds
                )
                passed, memory = (
                    statistics.median(each[library][key] for each in rounds) for key in ("passed", "memory")
                )
                values = ", ".join(f"{value:.6g}" for value in rounds[0][library]["values"].values())
                print(
                    f"{metric:17} {library:15} {seconds:8.1f} {ratios[library]:10.2f} {passed:8.1f} "
                    f"{memory:7.0f}  {values}",
                    flush=True,
                )
            met = met and max(ratios.values()) <= GOAL
    return met


def large() -> bool:
    """Print the memory of precision and recall of many images; return whether it is below 2 GiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder, LARGE, LARGE_DIMENSIONS)
        found = measure("snowmelt", "precision_recall", folder)
    sets = 2 * LARGE * DIMENSIONS * 4 / 2**20
    total = sets + found["memory"]
    print(
        f"{LARGE:,} x {LARGE:,}, {LARGE_DIMENSIONS} features: {found['passed']:.0f} s, "
        f"{found['memory']:.0f} MiB beside the features; with {DIMENSIONS:,} features these are "
        f"{sets:.0f} MiB, {total:.0f} MiB in all"
    )
    return total < 2048


def main() -> int:
    """Print the tables; return 0 if the goals are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="processes of each kind")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--dimensions", type=int, default=DIMENSIONS)
    parser.add_argument("--large", action="store_true", help="measure 50,000 beside 50,000 images too")
    parser.add_argument("--measure", nargs=3, metavar=("LIBRARY", "METRIC", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        library, metric, folder = arguments.measure
        measure_here(library, metric, Path(folder))
        return 0
    met = compare(arguments.runs, arguments.images, arguments.dimensions)
    if arguments.large:
        met = large() and met
    print(f"Goal: no slower than the faster peer: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
