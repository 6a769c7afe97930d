"""The training objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from snowmelt.core import Level
from snowmelt.models import DiffusionModel
from snowmelt.precision import autocast
from snowmelt.training.draws import Draws
from snowmelt.training.learned_variance import variance_loss
from snowmelt.training.precision import settle_precision
from snowmelt.training.times import Times
from snowmelt.training.weightings import Weighting

if TYPE_CHECKING:
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["BatchLoss", "batch_loss", "denoising_loss", "labels_to_learn"]

# (trainer, *batch, draws=..., learns=...) -> the loss of the batch, a scalar: `batch_loss` is one
BatchLoss = Callable[..., Tensor]

UNIFORM, USUAL = Weighting(), Times()


def denoising_loss(
    model: DiffusionModel,
    x0: Tensor,
    class_labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    *,
    t: Tensor | None = None,
    eps: Tensor | None = None,
    augment_labels: Tensor | None = None,
    network: Callable[..., Tensor] | None = None,
    weighting: Weighting = UNIFORM,
    times: Times = USUAL,
    uncertainty: Callable[[Tensor], Tensor] | None = None,
    importance: Tensor | None = None,
    judged: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the mean squared error of the network's prediction at random times and noise, a scalar.

    The parameterization says what is predicted. With uniform weights and the schedule's own times, eps gives
    DDPM's L_simple (Ho et al. 2020, eq. 14), F the loss of EDM (Karras et al. 2022, eq. 8), and the velocity
    flow matching (Lipman et al. 2023, eq. 23). A model with learned variance adds what teaches it
    (`snowmelt.training.learned_variance`).

    Args:
        model: on any noise schedule.
        x0: clean images (B, C, H, W) in [-1, 1].
        class_labels: (B,) integers, handed to the network as they are.
        generator: of the times, on the CPU; with one, the noise is drawn from it too (for validation).
        t: (B,) times in (0, 1], in place of drawn ones.
        eps: noise like `x0`, in place of drawn noise.
        augment_labels: (B, augment_channels), how the images were changed, for a network that reads it.
        network: stands for the model's network, which another library has wrapped.
        weighting: how much each noise level counts.
        times: how noise levels are drawn.
        uncertainty: u(lam), to learn beside the network; see `snowmelt.training.Uncertainty`.
        importance: (B,), how much each image counts; None for all alike.
        judged: E[x0 | x_t] as the network sees it, like `x0` -> (B,), what is added to each image's error.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> loss = denoising_loss(model, torch.zeros(1000, 1, 8, 8))
    >>> round(loss.item(), 1)  # a new network predicts 0, and eps has variance 1
    1.0
    """
    if t is None:
        t = times.draw(model.schedule, len(x0), generator)
    level = model.schedule(t)
    weight, lam = weighting(level, model.parameterization), level.lam
    time = model.time(level).to(x0.device, torch.float32, non_blocking=True)
    # Levels are made in float64 on the CPU, and move to the images in their shape and dtype; nobody waits
    level = Level(*(number.to(x0, non_blocking=True).view(-1, 1, 1, 1) for number in level))
    eps = _noise_like(x0, generator) if eps is None else eps
    x_t = level.alpha * x0 + level.sigma * eps
    labels = (class_labels,) if augment_labels is None else (class_labels, augment_labels.to(x0.device))
    output = (network or model.network)(model.parameterization.input_scale(level) * x_t, time, *labels)
    y, variance = model.split(output.to(x0.dtype))
    target = model.parameterization.target(x0, eps, level)
    if all(each is None for each in (weight, uncertainty, variance, importance, judged)):
        return mse_loss(y, target)
    error = (y - target).square().flatten(1).mean(1)
    if weight is not None:
        error = weight.to(x0, non_blocking=True) * error
    if uncertainty is not None:
        # Karras et al. 2024 (EDM2), eq. 14
        u = uncertainty(lam.to(x0.device, torch.float32, non_blocking=True))
        error = error / u.exp() + u
    if variance is not None:
        predicted = model.parameterization.x0(x_t, y.detach(), level)
        error = error + variance_loss(model, t, x0, predicted, variance)
    if judged is not None:
        error = error + judged(model.parameterization.x0(x_t, y, level))
    return (error if importance is None else importance * error).mean()


def batch_loss(
    trainer: DiffusionTrainer,
    x0: Tensor,
    class_labels: Tensor,
    augment_labels: Tensor | None = None,
    *,
    draws: Draws,
    learns: bool = True,
) -> Tensor:
    """Return the loss of a trainer's network on a batch, on the device and in the precision of its run.

    Args:
        trainer: whose network it is.
        x0, class_labels, augment_labels: the batch.
        draws: what was drawn for it.
        learns: False for validation, which drops no label, and weights neither classes nor uncertainty.
    """
    device = trainer.accelerator.device
    x0, class_labels = (batch.to(device, non_blocking=True) for batch in (x0, class_labels))
    labels = labels_to_learn(trainer.model, class_labels, draws.dropped if learns else None)
    options = {"network": trainer.forward, "augment_labels": augment_labels, **trainer.objective}
    if learns:
        options["uncertainty"] = trainer.uncertainty
        if (class_weights := getattr(trainer.dataloader, "class_weights", None)) is not None:
            options["importance"] = class_weights.to(device, non_blocking=True)[class_labels]
    eps = draws.noise(x0.shape[1:], device)
    with autocast(device, settle_precision(trainer).precision):
        return denoising_loss(trainer.model, x0, labels, t=draws.times, eps=eps, **options)


def labels_to_learn(
    model: DiffusionModel, class_labels: Tensor, dropped: Tensor | None = None
) -> Tensor | None:
    """Return the labels that a step is taken with; None for a model without classes.

    Those of `dropped`, (B,) booleans, become the null class. This is how one network learns both halves of
    classifier-free guidance (Ho & Salimans 2022, algorithm 1).
    """
    if not model.num_classes:
        return None
    null_class = model.null_class
    if null_class is None or dropped is None:
        return class_labels
    return class_labels.masked_fill(dropped.to(class_labels.device, non_blocking=True), null_class)


def _noise_like(x0: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.randn_like(x0)
    return torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
