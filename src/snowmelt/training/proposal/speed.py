"""How fast this machine trains a network: some steps, on noise instead of images."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from snowmelt.config.training import Optimizer
from snowmelt.device import synchronize
from snowmelt.models import ModelSpec
from snowmelt.precision import AUTO, autocast, choose
from snowmelt.training.clock import StepClock
from snowmelt.training.loss import denoising_loss
from snowmelt.training.optimizers import make_optimizer

__all__ = ["faster_precision", "images_per_second"]

SECONDS = 6.0  # for the steps of one network, the first of which allocate


def faster_precision(spec: ModelSpec, batch_size: int, device: torch.device) -> str:
    """Return the precision in which a network learns faster here."""
    model = spec.build().to(device).eval()
    return choose(AUTO, model, device, batch_size, backward=True).precision


def images_per_second(spec: ModelSpec, batch_size: int, device: torch.device, precision: str = AUTO) -> float:
    """Return how many images a second a network learns from, by default in the precision that is faster here.

    >>> spec = ModelSpec((8, 8), 1, network_options={"model_channels": 8, "norm_groups": 4})
    >>> images_per_second(spec, 4, torch.device("cpu")) > 1
    True
    """
    model = spec.build().to(device)
    precision = choose(precision, model.eval(), device, batch_size, backward=True).precision
    optimizer = make_optimizer(Optimizer().type, model.train().parameters(), 1e-4)
    x0 = torch.randn(batch_size, *model.image_shape, device=device)
    labels = torch.zeros(batch_size, dtype=torch.int64, device=device) if model.num_classes else None

    def steps() -> Iterator[int]:
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            with autocast(device, precision):
                loss = denoising_loss(model, x0, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            yield batch_size

    clock = StepClock(an_epoch=1, left=None, wait=lambda: synchronize(device))
    for _ in clock.over(steps()):
        if clock.is_done():
            break
    return batch_size / clock.seconds
