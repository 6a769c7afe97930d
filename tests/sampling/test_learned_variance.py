"""A learned variance in samples, against guided-diffusion's respaced chain written in numpy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from snowmelt import DiffusionSampler
from snowmelt.core import DiscreteSchedule
from snowmelt.denoisers import Clip, DynamicThresholding, ask
from snowmelt.denoisers.guidance import AutoGuidance, ClassifierFreeGuidance, ClassifierGuidance
from snowmelt.editing.inpainting import Known
from snowmelt.editing.interpolation import ClassMix
from snowmelt.models import DDPMModel
from snowmelt.plans import SOLVERS, make_plan
from snowmelt.plans.ancestral import widths
from snowmelt.plans.joining import join
from snowmelt.sampling import SeededNoise
from snowmelt.sampling.microbatch import MicroBatches

T = 12
BETAS = np.linspace(0.01, 0.4, T)
SHAPE = (1, 2, 3)
SEEDS = [4, 5, 6]
LABELS = [0, 1, 1]


class Network(nn.Module):
    """Says something of its own for each state, time and label: of the noise, and of the variance."""

    def forward(self, x, time, labels):
        label, k = labels.view(-1, 1, 1, 1), time.view(-1, 1, 1, 1)
        return torch.cat([torch.sin(x + 0.1 * k - label), torch.tanh(2 * x - 0.2 * k + label)], dim=1)


@pytest.fixture
def model() -> DDPMModel:
    return DDPMModel(
        Network(),
        DiscreteSchedule(torch.from_numpy(BETAS)),
        "eps",
        image_shape=SHAPE,
        num_classes=2,
        null_class=2,
        learned_variance=True,
    )


def network(x: np.ndarray, k: int, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    label = labels.reshape(-1, 1, 1, 1)
    return np.sin(x + 0.1 * k - label), np.tanh(2 * x - 0.2 * k + label)


def respaced_chain(indices: list[int], scale: float) -> np.ndarray:
    """Nichol & Dhariwal 2021, section 4 and eq. 15: betas of the indices that are left, and then DDPM."""
    draw = SeededNoise(SEEDS, SHAPE)
    labels = np.array(LABELS)
    bars = np.cumprod(1 - BETAS)[indices]
    before = np.append(1.0, bars[:-1])
    betas = 1 - bars / before
    x = draw().double().numpy()
    for i in reversed(range(len(indices))):
        eps, v = network(x, indices[i], labels)
        if scale:  # the variance is that of the condition
            unconditional, _ = network(x, indices[i], np.full(len(SEEDS), 2))
            eps = unconditional + scale * (eps - unconditional)
        x0 = np.clip((x - np.sqrt(1 - bars[i]) * eps) / np.sqrt(bars[i]), -1, 1)
        mean = np.sqrt(before[i]) * betas[i] / (1 - bars[i]) * x0
        mean += np.sqrt(1 - betas[i]) * (1 - before[i]) / (1 - bars[i]) * x
        if i == 0:
            return mean
        lower, upper = np.log(betas[i] * (1 - before[i]) / (1 - bars[i])), np.log(betas[i])
        f = (v + 1) / 2
        x = mean + np.exp((f * upper + (1 - f) * lower) / 2) * draw().double().numpy()
    raise AssertionError


@pytest.mark.parametrize("scale", [0.0, 3.0])
@pytest.mark.parametrize(
    ("method", "indices"),
    [
        ("ddpm", list(range(T))),
        ("ddpm:4", [2, 5, 8, 11]),
        ("ddpm:4 grid=linspace", [0, 4, 7, 11]),  # as guided-diffusion spaces them
        ("ddim indices=[11,7,1] eta=1.0", [1, 7, 11]),
        ("euler_ancestral:2", [5, 11]),
    ],
)
def test_samples_are_those_of_the_respaced_chain(model, method, indices, scale):
    sampler = DiffusionSampler(model, method=method, micro_batch=2)
    samples = sampler.sample(3, LABELS, scale, seeds=SEEDS)
    expected = torch.from_numpy(respaced_chain(indices, scale)).float()
    torch.testing.assert_close(samples, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [250, 25])
def test_the_grid_spaces_indices_as_guided_diffusion_does(steps):
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    plan = make_plan(DiscreteSchedule(betas), "ddpm", steps, "linspace")
    indices = [round(1000 * row.level.t) - 1 for row in reversed(plan.rows)]
    assert indices == [round(i * 999 / (steps - 1)) for i in range(steps)]


def test_the_papers_loop_is_the_preset(model):
    draw, sampler = SeededNoise(SEEDS, SHAPE), DiffusionSampler(model, method="ddpm")
    x = draw()
    for index in reversed(range(T)):
        x = model.denoise_step(x, index, torch.tensor(LABELS), noise=draw() if index else None)
    torch.testing.assert_close(x, sampler.sample(3, LABELS, seeds=SEEDS))


def test_ancestral_steps_alone_can_be_wider(model):
    schedule, wider = model.schedule, {"ddpm", "euler_ancestral"}
    for name in SOLVERS:
        plan = make_plan(schedule, name, steps=4)
        assert (max(widths(plan)) > 1) == (name in wider), name
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            DiffusionSampler(model, method=plan)
        assert bool(said) == (plan.stochastic and name not in wider), name
    assert max(widths(make_plan(schedule, "ddim", steps=4, eta=0.9))) == 1


def test_a_step_down_and_up_again_is_not_ancestral(model):
    down, up = (SOLVERS["ddpm"](model.schedule, times) for times in ([1.0, 0.5, 0.25], [0.75, 0.5, 0.0]))
    twice = join([down, up])
    assert [width > 1 for width in widths(twice)] == [True, False, True, False]


def test_what_is_wrapped_around_passes_the_variance_on(model):
    x, level, labels = torch.randn(3, *SHAPE), model.schedule(0.5), torch.tensor(LABELS)
    variance = model.answer(x, level, labels).variance
    plan = make_plan(model.schedule, "ddpm", steps=4)
    classifier = ClassifierGuidance(classifier=lambda x, level: x.flatten(1), conditional=True)
    wrapped = [
        Clip(model),
        DynamicThresholding(model),
        MicroBatches(model, 2),
        ClassifierFreeGuidance(model, 4.0, 2),
        AutoGuidance(weak=lambda x, level, labels: 0 * x).wrap(model, 2.0, null_class=2, plan=plan),
        classifier.wrap(model, 2.0, null_class=2, plan=plan),
        ClassMix(model, 1 - labels, torch.zeros(3)),
    ]
    for denoiser in wrapped:
        torch.testing.assert_close(ask(denoiser, x, level, labels).variance, variance)
        torch.testing.assert_close(denoiser(x, level, labels), ask(denoiser, x, level, labels).x0)


def test_known_pixels_have_the_posteriors_noise(model):
    x, level, labels = torch.randn(3, *SHAPE), model.schedule(0.5), torch.tensor(LABELS)
    mask = torch.tensor([True, False, True])
    known = Known(model, torch.zeros_like(x), mask).answer(x, level, labels).variance
    assert (known[..., mask] == -1).all()
    assert torch.equal(known[..., ~mask], model.answer(x, level, labels).variance[..., ~mask])


def test_images_are_known_by_their_variance(model):
    def identity(method: str) -> dict:
        sampler = DiffusionSampler(model, method=method)
        return sampler.identity(sampler.request(1, [0], seeds=[0]))

    assert identity("ddpm:4")["variance"] == "learned"
    assert "variance" not in identity("ddim:4")
    model.learned_variance = False
    assert "variance" not in identity("ddpm:4")
