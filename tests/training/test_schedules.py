"""Training on every noise schedule, against a closed form: Gaussian images.

For pixels from N(mu, s^2) the posterior mean is linear in x_t,

    E[x0 | x_t] = mu + alpha s^2 / (alpha^2 s^2 + sigma^2) (x_t - alpha mu),

so that a network of two parameters, mu and log s, can be perfect, on every schedule and in every dialect. The
loss has its minimum where the parameters are those of the images.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from snowmelt import DiffusionModel, DiffusionSampler, DiffusionTrainer
from snowmelt.core import PARAMETERIZATIONS, SCHEDULES, Level, make_schedule
from snowmelt.training import denoising_loss

MEAN, STD = 0.2, 0.25
SHAPE = (1, 4, 4)


class GaussianImages:
    """Stands for a `DiffusionDataLoader`."""

    batch_size, class_names = 256, None
    num_train_images = num_epoch_images = num_val_images = 2048

    def __init__(self) -> None:
        pixels = torch.randn(self.num_train_images, *SHAPE, generator=torch.Generator().manual_seed(1))
        pixels = (pixels - pixels.mean()) / pixels.std()
        images, labels = MEAN + STD * pixels, torch.zeros(len(pixels), dtype=torch.long)
        self.batches = list(zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True))

    def batches_per_epoch(self, process=(0, 1)):
        return self.num_train_images // self.batch_size

    def train_loader(self, epoch, start_batch=0, process=(0, 1)):
        return DataLoader(self.batches, batch_size=None, generator=torch.Generator())

    def val_loader(self):
        return DataLoader(self.batches, batch_size=None, generator=torch.Generator())


class Linear(nn.Module):
    """The posterior mean for N(mu, s^2), in the network's dialect; its time says the level."""

    def __init__(self, schedule, parameterization, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.schedule, self.parameterization = schedule, parameterization
        self.mean = nn.Parameter(torch.tensor(mean))
        self.log_std = nn.Parameter(torch.tensor(math.log(std)))

    def forward(self, x: Tensor, time: Tensor, class_labels: Tensor | None = None) -> Tensor:
        time = time.double()
        t = {
            "index": lambda: (time + 1) / (self.schedule.num_timesteps or 1),
            "1000t": lambda: time / 1000,
            "log(sigma)/4": lambda: self.schedule.t_of_lam(-4 * time),
        }[self.schedule.time]()
        level = Level(*(number.to(x).view(-1, 1, 1, 1) for number in self.schedule(t)))
        x_t, variance = x / self.parameterization.input_scale(level), (2 * self.log_std).exp()
        noisy_variance = level.alpha**2 * variance + level.sigma**2
        x0 = self.mean + level.alpha * variance / noisy_variance * (x_t - level.alpha * self.mean)
        # E[eps | x_t] = (x_t - alpha E[x0 | x_t]) / sigma, without the division
        eps = level.sigma / noisy_variance * (x_t - level.alpha * self.mean)
        return self.parameterization.target(x0, eps, level)


def make_model(name: str, **start: float) -> DiffusionModel:
    schedule = make_schedule(name)
    parameterization = PARAMETERIZATIONS[schedule.usual_prediction]
    network = Linear(schedule, parameterization, **start)
    return DiffusionModel(network, schedule, parameterization, image_shape=SHAPE)


@pytest.mark.parametrize("name", ["ddpm-linear", "ve", "flow"])  # of each kind one
def test_training_finds_the_gaussian_that_the_images_come_from(name):
    torch.manual_seed(0)
    model = make_model(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    trainer = DiffusionTrainer(
        model,
        GaussianImages(),
        optimizer,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=25),
        sampler=DiffusionSampler(model, threshold=None),
        use_ema=False,
    )
    before = trainer.validate_epoch()["loss"]
    trainer.train(25)
    assert model.network.mean.item() == pytest.approx(MEAN, abs=0.02)
    assert model.network.log_std.exp().item() == pytest.approx(STD, abs=0.02)
    after = trainer.validate_epoch()["loss"]
    assert after < before
    known = DiffusionTrainer(
        make_model(name, mean=MEAN, std=STD), GaussianImages(), optimizer, use_ema=False
    ).validate_epoch()["loss"]
    assert after == pytest.approx(known, rel=0.01)
    images = trainer.sampler.sample(256, seeds=range(256))
    assert images.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert images.std().item() == pytest.approx(STD, abs=0.03)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_least_loss_is_the_posterior_variance(name):
    """E|target - E[target | x_t]|^2 = (b alpha - a sigma)^2 Var[x0 | x_t] / sigma^2 for y = a x0 + b eps."""
    model = make_model(name, mean=MEAN, std=STD)
    x0 = MEAN + STD * torch.randn(20000, *SHAPE, generator=torch.Generator().manual_seed(2))
    loss = denoising_loss(model, x0, generator=torch.Generator().manual_seed(3))
    level = model.schedule(model.schedule.draw_t(len(x0), torch.Generator().manual_seed(3)))
    # Two numbers of the dialect, read off its target; a and b may depend on the level
    one, zero = torch.ones_like(level.t), torch.zeros_like(level.t)
    a, b = model.parameterization.target(one, zero, level), model.parameterization.target(zero, one, level)
    noisy_variance = level.alpha**2 * STD**2 + level.sigma**2
    # Var[x0 | x_t] = s^2 sigma^2 / (alpha^2 s^2 + sigma^2), and sigma^2 drops out
    expected = (b * level.alpha - a * level.sigma) ** 2 * STD**2 / noisy_variance
    assert loss.item() == pytest.approx(expected.mean().item(), rel=0.02)
