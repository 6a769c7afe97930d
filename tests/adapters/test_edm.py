"""EDM's networks in our sampler, against k-diffusion's Heun (Karras et al. 2022, algorithm 1)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snowmelt import DiffusionSampler, EDMSampler
from snowmelt.adapters import from_edm


class EDMNetwork(nn.Module):
    """A small network under EDM's preconditioning (table 1), with labels as EDM has them."""

    def __init__(self, num_classes=0):
        super().__init__()
        self.inner = nn.Conv2d(1, 1, 3, padding=1)
        self.label = nn.Linear(num_classes, 1) if num_classes else None

    def forward(self, x, sigma, class_labels=None):
        sigma = sigma.view(-1, 1, 1, 1)
        c_skip, c_out = 0.25 / (sigma**2 + 0.25), 0.5 * sigma / (sigma**2 + 0.25).sqrt()
        c_in, c_noise = 1 / (sigma**2 + 0.25).sqrt(), sigma.log() / 4
        condition = c_noise if self.label is None else c_noise + self.label(class_labels)[..., None, None]
        return c_skip * x + c_out * torch.tanh(self.inner(c_in * x) + condition)


@pytest.mark.parametrize("steps", [2, 7])
def test_heun_is_k_diffusions(k_diffusion, steps):
    net = EDMNetwork().double()
    sampler = EDMSampler(from_edm(net, (1, 4, 4)), steps=steps, threshold=None)
    x = 80 * torch.randn(3, 1, 4, 4, dtype=torch.float64)
    *_, state = sampler.run(sampler.plan, x)
    sigmas = k_diffusion.get_sigmas_karras(steps, 0.002, 80.0).double()
    expected = k_diffusion.sample_heun(net, x, sigmas, disable=True)
    torch.testing.assert_close(state.x_t, expected, rtol=1e-5, atol=1e-5)  # its grid is float32


def test_labels_arrive_one_hot_and_guidance_has_a_null_class(k_diffusion):
    net = EDMNetwork(num_classes=3).double()
    sampler = DiffusionSampler(
        from_edm(net, (1, 4, 4), num_classes=3), solver="euler", steps=5, threshold=None
    )
    x = 80 * torch.randn(2, 1, 4, 4, dtype=torch.float64)
    *_, state = sampler.run(sampler.plan, x, [2, 0], guidance_scale=3.0)

    hot = torch.eye(3, dtype=torch.float64)[[2, 0]]

    def guided(x, sigma):
        unconditional = net(x, sigma, torch.zeros_like(hot))
        return unconditional + 3 * (net(x, sigma, hot) - unconditional)

    sigmas = torch.tensor([level.sigma for level in sampler.plan.levels])
    expected = k_diffusion.sample_euler(guided, x, sigmas.double(), disable=True)
    torch.testing.assert_close(state.x_t, expected, rtol=1e-5, atol=1e-5)


def test_the_weights_move_with_the_model():
    net = EDMNetwork(num_classes=3)
    DiffusionSampler(from_edm(net, (1, 4, 4), num_classes=3).double(), steps=1)
    assert net.inner.weight.dtype == torch.float64
