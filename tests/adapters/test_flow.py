"""Velocity networks of either direction in our sampler, against diffusers' flow-matching scheduler."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import nn

from snowmelt import DiffusionSampler
from snowmelt.adapters import from_flow


class Velocity(nn.Module):
    """A velocity from image to noise, told 1000 t."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, time, class_labels=None):
        return torch.sin(self.layer(x) + 3 * time.view(-1, 1, 1, 1) / 1000)


def translated(velocity, towards, time_scale):
    """Return the same velocity, in another convention."""
    if towards == "noise":
        return lambda x, time, labels: velocity(x, time * 1000 / time_scale)
    return lambda x, time, labels: -velocity(x, 1000 - time * 1000 / time_scale)


@pytest.mark.parametrize("towards", ["noise", "image"])
@pytest.mark.parametrize("time_scale", [1, 1000])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_samples_are_diffusers(towards, time_scale, shift):
    velocity = Velocity()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(6)
    x = torch.randn(3, 1, 4, 4)
    expected = x
    with torch.no_grad():
        for time in scheduler.timesteps:
            expected = scheduler.step(velocity(expected, time), time, expected, return_dict=False)[0]

    network = translated(velocity, towards, time_scale)
    model = from_flow(network, (1, 4, 4), towards=towards, time_scale=time_scale)
    times = [min(t, 1.0) for t in scheduler.sigmas[:-1].tolist()]
    sampler = DiffusionSampler(model, solver="euler", times=times, threshold=None)
    *_, state = sampler.run(sampler.plan, x)
    torch.testing.assert_close(state.x_t, expected, rtol=1e-5, atol=1e-5)


def test_other_conventions_are_refused():
    with pytest.raises(ValueError, match="time_scale 1 or 1000, got 'noise' and 100"):
        from_flow(Velocity(), (1, 4, 4), time_scale=100)
    with pytest.raises(ValueError, match="towards must be noise or image"):
        from_flow(Velocity(), (1, 4, 4), towards="data")
