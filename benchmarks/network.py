"""Our U-Net beside diffusers' UNet2DModel, with the same weights: ``make bench-network``.

For each network, batch size and use (inference, or a training step of forward and backward):

- time: CPU time of this process on one thread, which other work on the machine disturbs least; the sides
  take turns, so that what disturbs it disturbs them alike; ratios are of medians and of minima;
- memory: how far the resident memory rises above that of the built networks, each side in a process of
  its own, which is forked before anything has run.

The table goes into docs/network.md.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from memory import resident
from torch import Tensor, nn

from snowmelt.files import atomic_write
from snowmelt.networks import UNet

PAGE = Path(__file__).resolve().parents[1] / "docs" / "network.md"
START, END = "<!-- measured: start -->", "<!-- measured: end -->"
SECONDS = 1.0  # for a cell, but at least REPETITIONS
REPETITIONS = 3
BATCHES = (1, 16)


@dataclass(frozen=True)
class Shape:
    """What the networks of both sides have in common."""

    size: int
    image_channels: int
    model_channels: int
    multipliers: tuple[int, ...]
    attention: tuple[bool, ...]


SHAPES = {
    "1x8x8, 32 channels": Shape(8, 1, 32, (1, 2), (False, False)),
    "3x32x32, 64 channels": Shape(32, 3, 64, (1, 2, 2), (False, True, True)),
    "3x32x32, 128 channels": Shape(32, 3, 128, (1, 2, 2), (False, True, True)),
    "3x64x64, 64 channels": Shape(64, 3, 64, (1, 2, 3, 4), (False, False, True, True)),
}


def main() -> None:
    """Measure everything, print the table, and put it on its page."""
    torch.set_num_threads(1)
    begin = time.perf_counter()
    cells = [(name, batch, training) for name in SHAPES for batch in BATCHES for training in (False, True)]
    # First: the processes must be forked from one that has run nothing
    memory = [[_memory(*cell, side) for side in (0, 1)] for cell in cells]
    rows = [_times(*cell) | {"memory": rises} for cell, rises in zip(cells, memory, strict=True)]
    seconds = time.perf_counter() - begin
    table = _table(
        rows, f"Measured by `make bench-network` in {seconds:.0f} s with torch {torch.__version__}"
    )
    print(table)
    page = PAGE.read_text(encoding="utf-8")
    before, after = page[: page.index(START) + len(START)], page[page.index(END) :]
    with atomic_write(PAGE) as file:
        file.write(f"{before}\n\n{table}\n\n{after}".encode())


def _times(name: str, batch: int, training: bool) -> dict[str, Any]:
    ours, theirs = _pair(SHAPES[name])
    networks = {"ours": ours, "theirs": theirs}
    runs = {side: _run(network, SHAPES[name], batch, training) for side, network in networks.items()}
    times = _in_turn(runs)
    medians = {side: statistics.median(seconds) for side, seconds in times.items()}
    return {
        "network": name,
        "batch": batch,
        "use": "training" if training else "inference",
        "ms": 1000 * medians["ours"],
        "medians": medians["ours"] / medians["theirs"],
        "minima": min(times["ours"]) / min(times["theirs"]),
    }


def _pair(shape: Shape) -> tuple[UNet, nn.Module]:
    kinds = ["Attn" if attended else "" for attended in shape.attention]
    theirs: Any = UNet2DModel(
        sample_size=shape.size,
        in_channels=shape.image_channels,
        out_channels=shape.image_channels,
        block_out_channels=[shape.model_channels * multiplier for multiplier in shape.multipliers],
        down_block_types=[f"{kind}DownBlock2D" for kind in kinds],
        up_block_types=[f"{kind}UpBlock2D" for kind in reversed(kinds)],
    )
    ours = UNet(
        shape.size,
        shape.image_channels,
        model_channels=shape.model_channels,
        channel_multipliers=shape.multipliers,
        use_attention=shape.attention,
    )
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def _run(network: nn.Module, shape: Shape, batch: int, training: bool) -> Callable[[], None]:
    x_t = torch.randn(batch, shape.image_channels, shape.size, shape.size)
    timesteps = torch.full((batch,), 500.0)

    def infer() -> None:
        with torch.inference_mode():
            network(x_t, timesteps)

    def train() -> None:
        y = network(x_t, timesteps)
        (y if isinstance(y, Tensor) else y.sample).square().mean().backward()
        network.zero_grad(set_to_none=True)

    return train if training else infer


def _in_turn(runs: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return CPU seconds of every run, after one each that doesn't count."""
    times: dict[str, list[float]] = {side: [] for side in runs}
    for run in runs.values():
        run()
    begin = time.perf_counter()
    while time.perf_counter() - begin < SECONDS or len(times["ours"]) < REPETITIONS:
        for side, run in runs.items():
            start = time.process_time()
            run()
            times[side].append(time.process_time() - start)
    return times


def _memory(name: str, batch: int, training: bool, side: int) -> float:
    """Return by how many MiB our (0) or their (1) network raises the resident memory at most."""
    receiver, sender = get_context("fork").Pipe(duplex=False)
    arguments = (name, batch, training, side, sender)
    process = get_context("fork").Process(target=_report_memory, args=arguments)
    process.start()
    rise: float = receiver.recv()
    process.join()
    return rise


def _report_memory(name: str, batch: int, training: bool, side: int, sender: Connection) -> None:
    run = _run(_pair(SHAPES[name])[side], SHAPES[name], batch, training)
    before = resident("VmRSS")
    run()
    sender.send((resident("VmHWM") - before) / 1024)


def _table(rows: list[dict[str, Any]], caption: str) -> str:
    lines = [
        f"{caption}.",
        "",
        "| network | batch | use | ours, ms | ours / theirs: median | minimum | memory, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        ours, theirs = row["memory"]
        lines.append(
            f"| {row['network']} | {row['batch']} | {row['use']} | {row['ms']:.1f} | {row['medians']:.2f} "
            f"| {row['minima']:.2f} | {ours:.0f} / {theirs:.0f} = {ours / theirs:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
