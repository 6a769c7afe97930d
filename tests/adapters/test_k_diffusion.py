"""k-diffusion's denoisers in our sampler, against its own samplers."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from snowmelt import DiffusionSampler
from snowmelt.adapters import from_k_diffusion
from snowmelt.core import make_betas


class Network(nn.Module):
    """A small network that listens to its time and, if it has one, to its label."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)
        self.classes = nn.Embedding(4, 1)

    def forward(self, x, time, class_cond=None, shift=0.0):
        condition = time.view(-1, 1, 1, 1) / 1000 + shift
        if class_cond is not None:
            condition = condition + self.classes(class_cond)[..., None, None]
        return torch.tanh(self.layer(x) + condition)


def denoisers(k_diffusion):
    external = importlib.import_module("k_diffusion.external")
    alpha_bar = torch.cumprod(1 - make_betas("linear"), 0)
    return {
        "eps": external.DiscreteEpsDDPMDenoiser(Network(), alpha_bar, quantize=False),
        "v": external.DiscreteVDDPMDenoiser(Network(), alpha_bar, quantize=False),
        "continuous v": external.VDenoiser(Network()),
    }


@pytest.mark.parametrize("kind", ["eps", "v", "continuous v"])
@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m"])
def test_samples_are_k_diffusions(k_diffusion, kind, solver):
    denoiser = denoisers(k_diffusion)[kind].double()
    model = from_k_diffusion(denoiser, (1, 4, 4), shift=0.3)
    sampler = DiffusionSampler(model, solver=solver, steps=6, grid="karras", threshold=None)
    assert sampler.plan.levels[0].sigma == pytest.approx(80.0 if kind == "continuous v" else 157.41, rel=1e-4)
    sigmas = sorted({level.sigma for level in sampler.plan.levels}, reverse=True)
    x = sigmas[0] * torch.randn(3, 1, 4, 4, dtype=torch.float64)
    *_, state = sampler.run(sampler.plan, x)
    peer = getattr(k_diffusion, f"sample_{solver}")
    grid = torch.tensor(sigmas, dtype=torch.float64)
    expected = peer(denoiser, x, grid, extra_args={"shift": 0.3}, disable=True)
    torch.testing.assert_close(state.x_t, expected, rtol=1e-7, atol=1e-7)


def test_labels_have_their_keyword(k_diffusion):
    denoiser = denoisers(k_diffusion)["eps"].double()
    model = from_k_diffusion(denoiser, (1, 4, 4), num_classes=3, null_class=3)
    sampler = DiffusionSampler(model, solver="euler", steps=4, grid="karras", threshold=None)
    labels = torch.tensor([2, 0])
    sigmas = torch.tensor([level.sigma for level in sampler.plan.levels], dtype=torch.float64)
    x = sigmas[0] * torch.randn(2, 1, 4, 4, dtype=torch.float64)
    *_, state = sampler.run(sampler.plan, x, labels)
    extra = {"class_cond": labels}
    expected = k_diffusion.sample_euler(denoiser, x, sigmas, extra_args=extra, disable=True)
    torch.testing.assert_close(state.x_t, expected, rtol=1e-7, atol=1e-7)
    *_, state = sampler.run(sampler.plan, x)
    extra = {"class_cond": torch.tensor([3, 3])}
    expected = k_diffusion.sample_euler(denoiser, x, sigmas, extra_args=extra, disable=True)
    torch.testing.assert_close(state.x_t, expected, rtol=1e-7, atol=1e-7)


def test_the_range_can_be_stated(k_diffusion):
    model = from_k_diffusion(denoisers(k_diffusion)["eps"], (1, 4, 4), sigma_min=0.1, sigma_max=10.0)
    schedule = model.schedule
    assert (schedule.sigma_min, schedule.sigma_max) == (0.1, 10.0)
