"""How fast images come, beside diffusers: ``make bench-generate`` (about four minutes).

Both sides run one network with the same weights, DDIM with the same number of evaluations, and everything up
to the finished uint8 images, in one process, in turn. Then, with `snowmelt generate` itself:

- time to the first image on the disk, process start included;
- peak memory of 100 and of 10,000 images;
- one process against two.

Goals: 1.3 times diffusers' images per second, memory flat within 5 %.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.images import to_uint8
from snowmelt.models import DDPMModel
from snowmelt.models.checkpoint_file import write_contents

STEPS = 10
BATCHES = (1, 16, 64)
NETWORKS = {
    "8x8, 32 channels": {"image_size": 8, "in_channels": 1, "model_channels": 32},
    "32x32, 64 channels": {"image_size": 32, "use_attention": (False, True, True)},
}
SPEED_GOAL, MEMORY_GOAL = 1.3, 1.05
PEAK = """
import resource, sys
from snowmelt.cli import app
app(sys.argv[1:], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def ours_and_theirs(**options: object) -> tuple[DDPMModel, DDIMPipeline]:
    """Return our model and diffusers' pipeline with the same weights."""
    torch.manual_seed(0)
    model = create_ddpm(**options).eval()  # type: ignore[arg-type]
    config = model.config
    channels = [config["model_channels"] * m for m in config["channel_multipliers"]]
    attention = config["use_attention"] or [False] * len(channels)
    kinds = ["Attn" if yes else "" for yes in attention]
    network = UNet2DModel(
        sample_size=config["image_size"],
        in_channels=config["in_channels"],
        out_channels=config["in_channels"],
        block_out_channels=channels,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        layers_per_block=2,
    )
    network.load_state_dict(model.network.state_dict())
    pipeline = DDIMPipeline(network.eval(), DDIMScheduler(num_train_timesteps=1000))
    pipeline.set_progress_bar_config(disable=True)
    return model, pipeline


def seconds(function: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def throughput(rounds: int) -> float:
    """Print images per second, and return the lowest ratio to diffusers'."""
    print(f"{'network':20} {'batch':>5} {'ours /s':>9} {'diffusers /s':>12} {'ratio':>6}")
    worst = float("inf")
    for name, options in NETWORKS.items():
        model, pipeline = ours_and_theirs(**options)
        sampler = DiffusionSampler(model, solver="ddim", steps=STEPS)
        for batch in BATCHES:

            def ours(batch: int = batch, sampler: DiffusionSampler = sampler) -> None:
                to_uint8(sampler.sample(batch))

            def theirs(batch: int = batch, pipeline: DDIMPipeline = pipeline) -> None:
                pipeline(batch_size=batch, num_inference_steps=STEPS, output_type="np")

            ours(), theirs()
            times = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
            ratio = statistics.median(b / a for a, b in times)
            best = [batch / min(column) for column in zip(*times, strict=True)]
            worst = min(worst, ratio)
            print(f"{name:20} {batch:5} {best[0]:9.1f} {best[1]:12.1f} {ratio:6.2f}", flush=True)
    return worst


def command(folder: Path, number: int) -> list[str]:
    """Return the arguments that generate `number` images into a new folder."""
    return [
        "generate",
        "-",
        f"generation.checkpoint={folder / 'model.pth'}",
        f"generation.sampling.num_samples={number}",
        "generation.sampling.sampler={type: ddim, steps: 2}",
        "compute.device=cpu",
        f"output.base_dir={tempfile.mkdtemp(dir=folder)}",
        "--quiet",
    ]


def peak(folder: Path, number: int) -> float:
    """Return the peak memory of a process that generates `number` images, in MiB."""
    process = [sys.executable, "-c", PEAK, *command(folder, number)]
    return float(subprocess.run(process, check=True, capture_output=True, text=True).stdout.split()[-1])


def first_image(folder: Path) -> float:
    """Return the seconds from a process's start to its first image on the disk."""
    arguments = command(folder, 16)
    return seconds(lambda: subprocess.run([sys.executable, "-m", "snowmelt", *arguments], check=True))


def shared(folder: Path, processes: int, number: int = 2000) -> float:
    """Return the seconds that `processes` of one thread each take for `number` images, start included."""
    run = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "-m", "snowmelt"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return seconds(lambda: subprocess.run([*run, *command(folder, number)], check=True, env=environment))


def main() -> int:
    """Print the tables; return 0 if the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side, in turn")
    rounds = parser.parse_args().rounds
    speed = throughput(rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = create_ddpm(**NETWORKS["8x8, 32 channels"])  # type: ignore[arg-type]
        write_contents(
            {"model_config": model.config, "model_state_dict": model.state_dict()}, folder / "model.pth"
        )
        print(f"first 16 images on the disk after {first_image(folder):.1f} s, process start included")
        memory = {number: peak(folder, number) for number in (100, 1000, 10_000)}
        print("peak memory, MiB:", json.dumps({number: round(value) for number, value in memory.items()}))
        one, two = shared(folder, 1), shared(folder, 2)
        print(f"2,000 images: one process {one:.1f} s, two {two:.1f} s ({one / two:.2f} times as fast)")
    growth = memory[10_000] / memory[100]
    for what, figure, goal, met in (
        ("throughput / diffusers', at least", speed, SPEED_GOAL, speed >= SPEED_GOAL),
        ("memory of 10,000 / of 100 images, at most", growth, MEMORY_GOAL, growth <= MEMORY_GOAL),
    ):
        print(f"Goal: {what} {goal}: {'met' if met else 'MISSED'} ({figure:.2f})")
    return 0 if speed >= SPEED_GOAL and growth <= MEMORY_GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
