"""What a step of each optimizer takes: ``python benchmarks/optimizers.py``.

The network is the default one at 32x32, with 64 channels on patches of 2 pixels; gradients are noise. The
figure is the least CPU time of some steps, on one thread.
"""

from __future__ import annotations

import time

import torch

from snowmelt import create_model
from snowmelt.training.optimizers import make_optimizer

STEPS = 8


def milliseconds(name: str, fused: bool | None) -> float:
    """Return the CPU time of a step."""
    torch.manual_seed(0)
    parameters = list(create_model(32, 3, model_channels=64, patch_size=2, num_classes=10).parameters())
    optimizer = make_optimizer(name, parameters, 1e-4)
    for group in optimizer.param_groups:
        group |= {"fused": fused, "foreach": not fused}
    taken = []
    for _ in range(STEPS):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        began = time.process_time()
        optimizer.step()
        taken.append(time.process_time() - began)
    return 1000 * min(taken)


def main() -> None:
    """Print a row for each optimizer: torch's in both ways, and ours."""
    torch.set_num_threads(1)
    print("| | foreach | fused |\n| --- | --- | --- |")
    for name in ("adam", "adamw", "sgd", "muon"):
        foreach = f"{milliseconds(name, None):.1f}" if name != "muon" else ""
        print(f"| `{name}` | {foreach} | {milliseconds(name, True):.1f} |", flush=True)


if __name__ == "__main__":
    main()
