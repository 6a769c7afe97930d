"""Our training step beside those of others, from a folder of PNG files: ``make bench-training``.

- ours: `snowmelt train` with the U-Net of the others and AdamW, gradient clipping and the average of the
  weights;
- recipe: `snowmelt train` as it is without any option: with patches where the size suits them, and muon;
- bare: the network of ours, loss and optimizer on images in memory, without anything else: what is beyond it
  is overhead;
- diffusers: UNet2DModel with the same weights, in the loop of its documentation: Accelerate, AdamW, clipping,
  EMAModel, images through torchvision and a DataLoader;
- ddp: the Trainer of denoising-diffusion-pytorch with its own U-Net of the same width and stages. It is left
  out where the package is not installed.

Each side runs in a process of its own, on one thread, and they take turns. The figures are CPU time of the
process and of those that load its images, and how far its resident memory rises. The table goes into
docs/training.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from memory import resident
from PIL import Image

from snowmelt.files import atomic_write

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training.md"
START, END = "<!-- speed: start -->", "<!-- speed: end -->"
IMAGES = 512
TURN = 1  # steps a side takes before the next one: so "beyond the bare step" compares neighbours in time
TURNS = 16
MULTIPLIERS = (1, 2, 2)


@dataclass(frozen=True)
class Setting:
    """What all sides train."""

    size: int
    in_channels: int
    model_channels: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.in_channels}x{self.size}x{self.size}, {self.model_channels} channels"


SETTINGS = [
    Setting(size, in_channels, width, batch)
    for size, in_channels in ((28, 1), (32, 3))
    for width in (32, 64)
    for batch in (32, 128)
]


class Meter:
    """Measures steps in turns with other processes: it answers and waits when its turn is over."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.process = psutil.Process()
        self.left = 1  # the first step allocates and does not count
        self.begin = self.seconds()

    def seconds(self) -> float:
        """Return the CPU time of this process and of those that load its images."""
        total = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def step(self) -> None:
        """Count a step."""
        self.left -= 1
        if self.left:
            return
        self.connection.send((self.seconds() - self.begin, resident("VmHWM") / 1024))
        self.left = self.connection.recv()
        if not self.left:
            raise SystemExit
        self.begin = self.seconds()


def ours(setting: Setting, folder: Path, step: Callable[[], None]) -> None:
    """Train the network of the others, with their optimizer, as `snowmelt train` does."""
    _train(setting, folder, step, "model.architecture.patch_size=1", "training.optimizer.type=adamw")


def recipe(setting: Setting, folder: Path, step: Callable[[], None]) -> None:
    """Train as `snowmelt train` does by default."""
    _train(setting, folder, step)


def _train(setting: Setting, folder: Path, step: Callable[[], None], *others: str) -> None:
    from snowmelt.config import load_config
    from snowmelt.training.run import TrainingRun

    path = folder.parent / f"{setting.size}.yaml"
    path.write_text(f"data: {{paths: {{train: {folder}}}}}")
    options = [
        f"model.architecture.image_size={setting.size}",
        f"model.architecture.in_channels={setting.in_channels}",
        f"model.architecture.model_channels={setting.model_channels}",
        f"model.architecture.channel_multipliers={list(MULTIPLIERS)}",
        "model.conditioning.type=none",
        f"data.loading.batch_size={setting.batch_size}",
        "compute.device=cpu",
        "compute.precision=auto",
        *others,
    ]
    trainer = TrainingRun(load_config(path, options), torch.device("cpu")).trainer
    while True:
        for _ in trainer.steps():
            step()
        trainer.progress.end_epoch()


def bare(setting: Setting, folder: Path, step: Callable[[], None]) -> None:
    """Train the same network on images in memory, and do nothing else."""
    from snowmelt import create_ddpm
    from snowmelt.training.loss import denoising_loss

    model = create_ddpm(
        image_size=setting.size,
        in_channels=setting.in_channels,
        model_channels=setting.model_channels,
        channel_multipliers=MULTIPLIERS,
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    x0 = torch.randn(setting.batch_size, setting.in_channels, setting.size, setting.size)
    while True:
        optimizer.zero_grad()
        denoising_loss(model, x0).backward()
        optimizer.step()
        step()


def diffusers(setting: Setting, folder: Path, step: Callable[[], None]) -> None:
    """Train UNet2DModel in the loop of diffusers' documentation."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel
    from torch.nn.functional import mse_loss
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [transforms.Resize(setting.size), transforms.CenterCrop(setting.size), transforms.ToTensor()]
    if setting.in_channels == 1:
        steps.insert(0, transforms.Grayscale())
    steps.append(transforms.Normalize([0.5], [0.5]))
    data = DataLoader(ImageFolder(folder, transforms.Compose(steps)), setting.batch_size, shuffle=True)
    model: Any = UNet2DModel(
        sample_size=setting.size,
        in_channels=setting.in_channels,
        out_channels=setting.in_channels,
        block_out_channels=[setting.model_channels * multiplier for multiplier in MULTIPLIERS],
        down_block_types=["DownBlock2D"] * len(MULTIPLIERS),
        up_block_types=["UpBlock2D"] * len(MULTIPLIERS),
    )
    noise_scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    schedule = get_cosine_schedule_with_warmup(optimizer, 500, 100_000)
    average = EMAModel(model.parameters(), decay=0.9999)
    accelerator = Accelerator(cpu=True)
    model, optimizer, data, schedule = accelerator.prepare(model, optimizer, data, schedule)
    while True:
        for clean, _ in data:
            noise = torch.randn_like(clean)
            timesteps = torch.randint(0, 1000, (len(clean),))
            noisy = noise_scheduler.add_noise(clean, noise, timesteps)
            with accelerator.accumulate(model):
                loss = mse_loss(model(noisy, timesteps, return_dict=False)[0], noise)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            average.step(model.parameters())
            step()


def ddp(setting: Setting, folder: Path, step: Callable[[], None]) -> None:
    """Run the Trainer of denoising-diffusion-pytorch."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet

    network = Unet(setting.model_channels, dim_mults=MULTIPLIERS, channels=setting.in_channels)
    trainer = Trainer(
        GaussianDiffusion(network, image_size=setting.size),
        str(folder),
        train_batch_size=setting.batch_size,
        results_folder=str(folder.parent / "ddp"),
        save_and_sample_every=10**9,
        calculate_fid=False,
    )
    update = trainer.ema.update

    def update_and_step() -> None:
        update()
        step()

    trainer.ema.update = update_and_step
    trainer.train()


SIDES = {"ours": ours, "recipe": recipe, "bare": bare, "diffusers": diffusers, "ddp": ddp}
PACKAGES = {"diffusers": "diffusers", "ddp": "denoising_diffusion_pytorch"}


def _serve(side: str, setting: Setting, folder: Path, connection: Connection) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    SIDES[side](setting, folder, Meter(connection).step)


Found = dict[str, tuple[list[float], float]]


def measure(setting: Setting, folder: Path, turns: int) -> Found:
    """Return the seconds of each turn's step and the highest memory in MiB of each side."""
    context = get_context("spawn")
    there = [side for side in SIDES if side not in PACKAGES or importlib.util.find_spec(PACKAGES[side])]
    seconds: dict[str, list[float]] = {side: [] for side in there}
    peaks: dict[str, float] = {}
    pipes, processes = {}, {}
    for side in there:
        pipes[side], sender = context.Pipe()
        processes[side] = context.Process(target=_serve, args=(side, setting, folder, sender))
        processes[side].start()
        pipes[side].recv()  # one after the other: while one starts, the others wait
    for _ in range(turns):
        for side, pipe in pipes.items():
            pipe.send(TURN)
            taken, peaks[side] = pipe.recv()
            seconds[side].append(taken / TURN)
    for side, pipe in pipes.items():
        pipe.send(0)
        processes[side].join()
    return {side: (seconds[side], peaks[side]) for side in there}


def draw(folder: Path, setting: Setting) -> Path:
    """Write images of noise as PNG files in two classes, and return their folder."""
    place = folder / f"{setting.in_channels}x{setting.size}"
    random = np.random.default_rng(0)
    for index in range(0 if place.exists() else IMAGES):
        path = place / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (setting.size, setting.size, *((3,) if setting.in_channels == 3 else ()))
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return place


def table(rows: Iterator[tuple[Setting, Found]]) -> Iterator[str]:
    """Yield the lines of a Markdown table; what is beyond the bare step has the middle half of the turns."""
    names = ["network", "batch", "ours, images/s", "recipe, images/s", "their time / ours"]
    names += ["beyond the bare step", "memory, MiB"]
    yield f"| {' | '.join(names)} |"
    yield "| --- " * len(names) + "|"
    for setting, found in rows:
        median = {side: statistics.median(seconds) for side, (seconds, _) in found.items()}
        peers = [side for side in ("diffusers", "ddp") if side in found]
        ratios = [mine / bare for mine, bare in zip(found["ours"][0], found["bare"][0], strict=True)]
        low, middle, high = (ratio - 1 for ratio in statistics.quantiles(ratios, n=4))
        rates = [f"{setting.batch_size / median[side]:.1f}" for side in ("ours", "recipe")]
        times = ", ".join(f"{side} {median[side] / median['ours']:.2f}" for side in peers)
        memory = ", ".join(f"{side} {found[side][1]:.0f}" for side in ("ours", *peers))
        beyond = f"{middle:.1%} ({low:.1%} to {high:.1%})"
        yield f"| {setting} | {setting.batch_size} | {' | '.join(rates)} | {times} | {beyond} | {memory} |"


def main() -> None:
    """Measure all settings, print the table, and put it on its page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument(
        "--only", type=int, nargs="*", help="numbers of settings, from 0; the page stays as it is"
    )
    arguments = parser.parse_args()
    begin = time.perf_counter()
    chosen = SETTINGS if arguments.only is None else [SETTINGS[number] for number in arguments.only]
    with tempfile.TemporaryDirectory() as place:
        rows = ((each, measure(each, draw(Path(place), each), arguments.turns)) for each in chosen)
        lines = []
        for line in table(rows):
            print(line, flush=True)
            lines.append(line)
    if arguments.only is not None:
        return
    seconds = time.perf_counter() - begin
    caption = (
        f"Measured by `make bench-training` in {seconds:.0f} s with torch {torch.__version__}, one thread."
    )
    page = PAGE.read_text(encoding="utf-8")
    before, after = page[: page.index(START) + len(START)], page[page.index(END) :]
    with atomic_write(PAGE) as file:
        file.write("\n\n".join([before, caption, "\n".join(lines), after]).encode())


if __name__ == "__main__":
    main()
