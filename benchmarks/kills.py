"""Kill runs at random moments, and compare what they end with: `make bench-kills`.

A run of a small network on digits is trained once without a disturbance, in one process and in two. Then
the same command is killed again and again at random moments, with SIGKILL or SIGTERM, in one of its processes
or in all of them, and started again each time. In the end, its checkpoints, metrics and pictures must hold
the same bytes. The same is done with ``snowmelt augment``, whose report and data set count.

Processes come from a server that has loaded the libraries, so that most moments lie within the training.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

CONFIG = Path(__file__).parents[1] / "configs" / "diffusion" / "digits.yaml"
RUN = [  # everything that has a state, and everything that is written
    "compute.device=cpu",
    "compute.precision=fp32",
    "data.paths.train=digits:test",
    "data.augmentation.translation=0.05",
    "model.architecture.model_channels=8",
    "model.architecture.channel_multipliers=[1]",
    "model.architecture.norm_groups=4",
    "model.architecture.dropout=0.1",
    "training.epochs=null",
    "training.images=1500",  # four epochs and a part of one
    "training.ema.snapshots=4",
    "training.validation.frequency=1",
    "training.checkpointing={save_frequency: 2, minutes: 0.005, images: 400, keep_last: 2}",
    "training.checkpointing.save_best_only=false",
    "training.visualization={interval: 2, num_samples: 4}",
    "training.resume.enabled=true",
]
JOB = [  # the stages of a whole job; what a proposal measures is stated
    "extractor=pixels",
    "compute.device=cpu",
    "train.compute.precision=fp32",
    "train.model.architecture.model_channels=16",
    "train.training.images=3000",
    "train.training.scheduler.warmup=100",
    "train.training.checkpointing={save_frequency: 4, minutes: 0.005}",
    "train.training.visualization.interval=10",
    "train.data.loading.batch_size=16",
    "tune={num_samples: 100, guidance_scales: [1.0, 2.0], method: 'ddim:4', nfe: 2}",
    "generate.ratios=[1.0, 2.0]",
    "judge={seeds: 3, steps: 20}",
]
BATCH = 64  # of all processes together
PATIENCE = 60  # seconds that a process has for its last checkpoint
PRELOADED = ["matplotlib.figure", "sklearn.datasets", "sklearn.linear_model", "snowmelt.augment",
             "snowmelt.cli.train", "snowmelt.training.run", "torch._dynamo",
             "torch.utils.tensorboard"]  # fmt: skip
PATTERNS = {  # files without times in them
    "train": ("checkpoints/**/*", "samples/*", "logs/metrics.csv"),
    "augment": (
        "report.html",
        "*.json",
        "*.png",
        "stages/tune.json",
        "stages/select.json",
        "stages/judge.json",
        "dataset/**/*",
        "model/checkpoints/*",
    ),
}
START = """
import os, runpy, sys
import torch
torch.set_num_threads(1)
os.environ.update({environment!r})
log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 1)
os.dup2(log, 2)
sys.argv[1:] = {arguments!r}
runpy.run_module("snowmelt", run_name="__main__")
"""


def main() -> None:
    """Disturb each command, and say whether the bytes are the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each run")
    parser.add_argument("--commands", nargs="+", choices=tuple(PATTERNS), default=list(PATTERNS))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="of training")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals")
    options = parser.parse_args()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    first = context.Process(target=time.sleep, args=(0,))  # waits until the server has loaded everything
    first.start()
    first.join()
    with tempfile.TemporaryDirectory() as folder:
        for command in options.commands:
            for processes in options.processes if command == "train" else [1]:
                place, chance = Path(folder) / command / str(processes), Random(options.seed)
                report(context, place, command, processes, options.kills, chance)


def report(
    context: ForkServerContext, folder: Path, command: str, processes: int, kills: int, chance: Random
) -> None:
    """Run a command with and without kills, and print what came of it; a difference ends the program."""
    run, undisturbed = folder / "run", folder / "undisturbed"
    began = time.monotonic()
    finish(start(context, run, command, processes))
    seconds = time.monotonic() - began
    run.rename(undisturbed)
    killed: Counter[str] = Counter()
    starts = 0
    while killed.total() < kills:
        team = start(context, run, command, processes)
        starts += 1
        time.sleep(chance.random() * seconds)
        if signum := strike(team, chance):
            killed[signum.name] += 1
            print(f"kill {killed.total()}: {signum.name}", file=sys.stderr, flush=True)
        else:  # it has ended before: it is compared, and begun anew
            compare(undisturbed, run, command)
            shutil.rmtree(run)
    finish(start(context, run, command, processes))
    files = compare(undisturbed, run, command)
    said = ", ".join(f"{number} {name}" for name, number in sorted(killed.items()))
    print(
        f"{command}, {processes} process(es), a run of {seconds:.0f} s: {said} in {starts} starts; "
        f"the {files} files have the undisturbed run's bytes",
        flush=True,
    )


def strike(team: list[BaseProcess], chance: Random) -> signal.Signals | None:
    """Kill one process or all of them, wait for their end, and return the signal; None if it came too late.

    As torchrun does, SIGTERM goes to all, and no process outlives another one for long.
    """
    signum = chance.choice([signal.SIGKILL, signal.SIGTERM])
    victims = [chance.choice(team)] if signum == signal.SIGKILL and chance.random() < 0.5 else team
    for process in victims:
        if process.is_alive():
            os.kill(process.pid, signum)
    for process in victims:
        process.join(PATIENCE)
    for process in team:
        process.kill()
        process.join()
    return signum if any(process.exitcode for process in team) else None


def start(context: ForkServerContext, folder: Path, command: str, processes: int) -> list[BaseProcess]:
    """Start the command in so many processes, as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder.parent.mkdir(parents=True, exist_ok=True)
    batch_size = f"data.loading.batch_size={BATCH // processes}"
    arguments = {
        "train": ["train", str(CONFIG), *RUN, batch_size, f"output.base_dir={folder}"],
        "augment": ["augment", "digits:test", "--out", str(folder), *JOB],
    }[command]
    team = []
    for rank in range(processes):
        environment = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
                       "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        words = {"environment": environment if processes > 1 else {}, "arguments": arguments}
        code = START.format(log=str(folder.with_suffix(".log")), **words)
        team.append(context.Process(target=exec, args=(code, {})))
        team[-1].start()
    return team


def finish(team: list[BaseProcess]) -> None:
    """Wait until a run has ended well."""
    for process in team:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a run that nobody disturbed ended with code {process.exitcode}")


def contents(folder: Path, command: str) -> dict[str, bytes]:
    """Return the files of a run without those that hold times."""
    paths = [path for pattern in PATTERNS[command] for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def compare(one: Path, other: Path, command: str) -> int:
    """Return the number of files that are the same; end the program where one is not."""
    there, here = contents(one, command), contents(other, command)
    if differing := sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name)):
        raise SystemExit(f"these files differ: {', '.join(differing)}")
    return len(there)


if __name__ == "__main__":
    main()
