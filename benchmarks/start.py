"""How soon generation begins, and in how much memory: ``make bench-start`` (after ``make demo``).

Four ways to the same point, each in a fresh process, in turn, so that a noisy machine treats them alike:

- bare: import torch, load the checkpoint's weights: the least that any sampler needs;
- generate: ``snowmelt generate`` up to its first denoising step;
- library: `DiffusionSampler.from_pretrained`, up to its first denoising step;
- trainer: the same samples through a full trainer, as before the two were taken apart: data, optimizer,
  logger, trainer, checkpoint, first denoising step.

Goal: generate within 1.5 times of bare.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "outputs" / "digits" / "checkpoints" / "latest.pth"
CONFIG = ROOT / "configs" / "diffusion" / "digits_generate.yaml"
GOAL = 1.5

# Each script calls stop() at the point in question
STOP = """
import json, os, resource, tempfile, time
NEW_FOLDER = f"output.subdirs.generated={tempfile.gettempdir()}/snowmelt-{os.getpid()}"
def stop(*args, **kwargs):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"time": time.time(), "cpu": time.process_time(), "memory": peak}), flush=True)
    os._exit(0)
"""
AT_FIRST_STEP = "from snowmelt.networks import UNet\nUNet.forward = stop\n"
WAYS = {
    "bare": f"import torch\ntorch.load({str(CHECKPOINT)!r}, weights_only=True)\nstop()",
    "generate": AT_FIRST_STEP
    + f"from snowmelt.cli import app\napp(['generate', {str(CONFIG)!r}, NEW_FOLDER])",
    "library": AT_FIRST_STEP
    + f"""
from snowmelt import DiffusionSampler
DiffusionSampler.from_pretrained({str(CHECKPOINT)!r}).sample(100)
""",
    "trainer": AT_FIRST_STEP
    + f"""
import tempfile, torch
from snowmelt import Checkpoint, DiffusionDataLoader, DiffusionLogger, DiffusionTrainer
model = Checkpoint.read({str(CHECKPOINT)!r}).model()
data = DiffusionDataLoader("digits:train", image_size=8, in_channels=1)
with tempfile.TemporaryDirectory() as logs:
    trainer = DiffusionTrainer(model, data, torch.optim.AdamW(model.parameters()), DiffusionLogger(logs))
    trainer.load_checkpoint({str(CHECKPOINT)!r}, reset_scheduler=True)
    trainer.sampler.sample(100)
""",
}


def measure(way: str) -> dict[str, float]:
    """Return seconds from the process's start to the point, CPU seconds, and MiB at the peak."""
    start = time.time()
    with tempfile.TemporaryFile("w+") as output:
        subprocess.run([sys.executable, "-c", STOP + WAYS[way]], cwd=ROOT, stdout=output, check=True)
        output.seek(0)
        result = json.loads(output.read().splitlines()[-1])
    return {"wall": result["time"] - start, "cpu": result["cpu"], "memory": result["memory"]}


def main() -> int:
    """Print a table; return 0 if the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="processes of each kind, after one warm-up")
    runs = parser.parse_args().runs
    if not CHECKPOINT.exists():
        sys.exit(f"{CHECKPOINT} is missing: run `make demo` first")
    rounds = [{way: measure(way) for way in WAYS} for _ in range(runs + 1)][1:]
    print(f"{'way':10} {'wall s':>8} {'CPU s':>8} {'MiB':>8} {'wall / bare':>12} {'MiB / bare':>11}")
    ratios = {}
    for way in WAYS:
        median = {key: statistics.median(r[way][key] for r in rounds) for key in ("wall", "cpu", "memory")}
        ratios[way] = statistics.median(r[way]["wall"] / r["bare"]["wall"] for r in rounds)
        memory = statistics.median(r[way]["memory"] / r["bare"]["memory"] for r in rounds)
        wall, cpu, peak = median.values()
        print(f"{way:10} {wall:8.2f} {cpu:8.2f} {peak:8.0f} {ratios[way]:12.2f} {memory:11.2f}")
    met = ratios["generate"] <= GOAL
    print(f"Goal: generate / bare at most {GOAL}: {'met' if met else 'MISSED'} ({ratios['generate']:.2f})")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
