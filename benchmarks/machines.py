"""Train on two machines that are network namespaces of this one: `make bench-machines` (needs root).

Each namespace has a network card of its own, joined by a virtual cable, and `torchrun` runs one process in
each. They see one disk, as the machines of a cluster do. The curve of losses is compared with that of one
process whose batches are as large as those of both together.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MACHINES = {"snowmelt0": "10.77.0.1", "snowmelt1": "10.77.0.2"}  # namespace, with its address
CONFIG = Path(__file__).parents[1] / "configs" / "diffusion" / "digits.yaml"
RUN = [
    "compute.device=cpu",
    "compute.precision=fp32",
    "data.paths.train=digits:test",
    "model.architecture.model_channels=8",
    "training.epochs=3",
    "training.validation.frequency=1",
    "training.visualization.enabled=false",
    "training.trackers=[]",
]
BATCH = 100  # of all processes together: four steps an epoch, of 100, 100, 100 and 60 images
CLOSE = 1e-4


def main() -> None:
    """Train on one machine and on two, and compare the curves; end with code 1 where they differ."""
    if reason := missing():
        print(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        subprocess.run([sys.executable, "-m", *command(one, BATCH)], check=True, env=environment("lo"))
        with machines():
            team = [subprocess.Popen(inside(name, command(two, BATCH // 2))) for name in MACHINES]
            codes = [process.wait() for process in team]
        if any(codes):
            raise SystemExit(f"the two machines ended with codes {codes}")
        apart = max(
            abs(here[name] / there[name] - 1)
            for there, here in zip(losses(one), losses(two), strict=True)
            for name in ("train_loss", "val_loss")
        )
    print(f"the losses of two machines and of one are {apart:.1e} apart; {CLOSE:.0e} is close")
    raise SystemExit(apart > CLOSE)


def missing() -> str | None:
    """Return why there can be no namespaces here; None where there can."""
    if shutil.which("ip") is None:
        return "the command ip (iproute2) is not installed"
    try:
        with machines():
            return None
    except subprocess.CalledProcessError as error:
        return f"this machine makes no network namespaces ({error.stderr.strip()})"


@contextmanager
def machines() -> Iterator[None]:
    """Make the namespaces with a cable between them, and remove them."""
    first, second = MACHINES
    try:
        for name in MACHINES:
            ip("netns", "add", name)
        ip("link", "add", first, "netns", first, "type", "veth", "peer", "name", second, "netns", second)
        for name, address in MACHINES.items():
            ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            for card in (name, "lo"):
                ip("-n", name, "link", "set", card, "up")
        yield
    finally:
        for name in MACHINES:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def ip(*words: str) -> None:
    """Run the command of that name."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def command(folder: Path, batch_size: int) -> list[str]:
    """Return the module to run, with its arguments."""
    own = f"data.loading.batch_size={batch_size}", f"output.base_dir={folder}"
    return ["snowmelt", "train", str(CONFIG), *RUN, *own]


def inside(name: str, module: list[str]) -> list[str]:
    """Return the command line that runs a module on a machine as one of two."""
    told = [f"{key}={value}" for key, value in environment(name).items() if os.environ.get(key) != value]
    first = next(iter(MACHINES.values()))
    team = [
        "--nnodes=2", "--nproc-per-node=1", f"--node-rank={list(MACHINES).index(name)}",
        f"--master-addr={first}", "--master-port=29501",
    ]  # fmt: skip
    launch = [sys.executable, "-m", "torch.distributed.run", *team, "-m", *module]
    return ["ip", "netns", "exec", name, "env", *told, *launch]


def environment(card: str) -> dict[str, str]:
    """Return what a process is told: one thread, and the network card that it talks through."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": card}


def losses(folder: Path) -> list[dict[str, float]]:
    """Return the losses that a run has logged."""
    with (folder / "logs" / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
