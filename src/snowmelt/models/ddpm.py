"""The model that snowmelt trains: a U-Net that denoises on a discrete schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snowmelt.core import PARAMETERIZATIONS, DiscreteSchedule, Level, Parameterization, make_betas
from snowmelt.denoisers.denoiser import NetworkDenoiser
from snowmelt.denoisers.guidance import ClassifierFreeGuidance
from snowmelt.networks import UNet

__all__ = ["DDPMModel", "create_ddpm"]


class DDPMModel(nn.Module):
    """A network with its schedule and parameterization: a `Denoiser` that has weights.

    Args:
        network: (x, time, class_labels) -> y.
        schedule: the discrete schedule it is trained on.
        parameterization: what y means.
        image_shape: (C, H, W).
        num_classes: number of classes; None or 0 for an unconditional model.
        has_null_class: label `num_classes` is the null class of guidance; without one, a model with classes
            needs labels always, and cannot be guided by them.
        class_dropout_prob: how often training replaces a label by the null class, in [0, 1).
        config: the arguments of `create_ddpm` that rebuild this model, kept in checkpoints.

    Attributes:
        null_class: the label that stands for no condition, or None where there is none.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: DiscreteSchedule,
        parameterization: Parameterization,
        *,
        image_shape: tuple[int, int, int],
        num_classes: int | None = None,
        has_null_class: bool = True,
        class_dropout_prob: float = 0.0,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 <= class_dropout_prob < 1.0:
            raise ValueError(f"class_dropout_prob must lie in [0, 1), got {class_dropout_prob}")
        if class_dropout_prob and not has_null_class:
            raise ValueError(
                f"class_dropout_prob is {class_dropout_prob}, but there is no null class to replace a label: "
                "take 0.0, or has_null_class=True"
            )
        self.network = network
        self.schedule = schedule
        self.parameterization = parameterization
        self.image_shape = image_shape
        self.num_classes = num_classes or None
        self.null_class = self.num_classes if has_null_class else None
        self.class_dropout_prob = class_dropout_prob
        self.config = dict(config or {})

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        """Return E[x0 | x_t]; without labels, a conditional model answers for its null class."""
        denoise = NetworkDenoiser(self.network, self.schedule, self.parameterization)
        return denoise(x_t, level, class_labels)

    @torch.no_grad()
    def denoise_step(
        self,
        x_t: Tensor,
        index: int,
        class_labels: Tensor | None = None,
        guidance_scale: float = 0.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Return one ancestral step, from trained index `index` to the one below (DDPM algorithm 2).

        Args:
            x_t: (B, C, H, W), the state at `index`.
            index: in 0 .. T - 1; after index 0 comes the image.
            class_labels: (B,) integers or None.
            guidance_scale: of classifier-free guidance; 0 and 1 leave it out.
            noise: standard normal, shaped like `x_t`; drawn if None.
        """
        if not 0 <= index < self.schedule.num_timesteps:
            raise ValueError(f"index must lie in 0..{self.schedule.num_timesteps - 1}, got {index}")
        s = self.schedule(self.schedule.t_of_index(index))
        t = self.schedule(self.schedule.t_of_index(index - 1))
        denoiser = self if guidance_scale in (0.0, 1.0) else self._guided(guidance_scale)
        x0 = denoiser(x_t, s, class_labels).clamp(-1, 1)
        # DDPM eq. 6 and 7: the posterior's mean and variance, with beta = 1 - alpha_s^2 / alpha_t^2
        beta = 1 - (s.alpha / t.alpha) ** 2
        mean = (t.alpha * beta * x0 + s.alpha / t.alpha * t.sigma**2 * x_t) / s.sigma**2
        std = t.sigma * math.sqrt(beta) / s.sigma
        return mean + std * (torch.randn_like(x_t) if noise is None else noise)

    @torch.no_grad()
    def sample(
        self, num_samples: int, class_labels: Tensor | None = None, guidance_scale: float = 0.0
    ) -> Tensor:
        """Return samples (num_samples, C, H, W) in [-1, 1] by ancestral sampling at every trained index.

        This is DDPM's algorithm 2 as it stands in the paper. `snowmelt.DiffusionSampler` does the same with
        any plan, EMA weights, per-image seeds and checks of its arguments.
        """
        x_t = torch.randn(num_samples, *self.image_shape, device=self.device)
        for index in reversed(range(self.schedule.num_timesteps)):
            x_t = self.denoise_step(x_t, index, class_labels, guidance_scale)
        return x_t

    def _guided(self, guidance_scale: float) -> ClassifierFreeGuidance:
        if self.null_class is None:
            raise ValueError(
                f"guidance_scale {guidance_scale} needs a model with classes and a null class; this has none"
            )
        return ClassifierFreeGuidance(self, guidance_scale, self.null_class)


def create_ddpm(
    image_size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    model_channels: int = 64,
    channel_multipliers: Sequence[int] = (1, 2, 2),
    num_classes: int | None = None,
    num_timesteps: int = 1000,
    beta_schedule: str = "linear",
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    class_dropout_prob: float = 0.1,
    use_attention: bool | Sequence[bool] = False,
    device: str | torch.device = "cpu",
    *,
    parameterization: str = "eps",
    zero_terminal_snr: bool = False,
    betas: Sequence[float] | None = None,
    has_null_class: bool = True,
    **network_options: Any,
) -> DDPMModel:
    """Build an untrained model.

    Args:
        image_size: side of square images, or (H, W); a multiple of 2 ** (stages - 1).
        in_channels: 1 for gray, 3 for colour.
        model_channels: width of the first stage.
        channel_multipliers: width of each stage, in units of `model_channels`.
        num_classes: None or 0 for an unconditional model.
        num_timesteps: T, the number of trained indices.
        beta_schedule: ``linear``, ``cosine``, ``quadratic`` or ``sigmoid``.
        beta_start: first variance (not read by ``cosine``).
        beta_end: last variance (not read by ``cosine``).
        class_dropout_prob: share of training labels replaced by the null class; guidance needs some.
        use_attention: everywhere, nowhere, or one bool a stage.
        device: where the weights are made.
        parameterization: what the network predicts: ``eps``, ``x0``, ``v``, ``flow`` or ``edm``.
        zero_terminal_snr: end in pure noise; needs a parameterization other than ``eps``.
        betas: the variances themselves, where no named schedule has them; `num_timesteps` is their number
            then, and `beta_schedule`, `beta_start` and `beta_end` are not read.
        has_null_class: the classes are followed by a null class, which guidance needs.
        network_options: further options of `snowmelt.networks.UNet` (``layers_per_block``, ``dropout``, ...).

    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32, channel_multipliers=(1, 2))
    >>> model.image_shape, model.num_classes, model.schedule.num_timesteps
    ((1, 8, 8), None, 1000)
    """
    if parameterization not in PARAMETERIZATIONS:
        known = ", ".join(PARAMETERIZATIONS)
        raise ValueError(f"parameterization must be one of {known}, got {parameterization!r}")
    if zero_terminal_snr and parameterization == "eps":
        raise ValueError(
            "zero_terminal_snr ends in pure noise, where a network that predicts eps says nothing about the "
            "image: take parameterization v or x0"
        )
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if betas is not None:
        num_timesteps = len(betas)
    # JSON knows lists, not tuples: the configuration is what a checkpoint gives back
    config = {
        "image_size": image_size if isinstance(image_size, int) else list(image_size),
        "in_channels": in_channels,
        "model_channels": model_channels,
        "channel_multipliers": list(channel_multipliers),
        "num_classes": num_classes or None,
        "num_timesteps": num_timesteps,
        "beta_schedule": beta_schedule,
        "beta_start": beta_start,
        "beta_end": beta_end,
        "class_dropout_prob": class_dropout_prob,
        "use_attention": use_attention if isinstance(use_attention, bool) else list(use_attention),
        "parameterization": parameterization,
        "zero_terminal_snr": zero_terminal_snr,
        "betas": None if betas is None else list(betas),
        "has_null_class": has_null_class,
        **network_options,
    }
    network = UNet(
        (height, width),
        in_channels,
        model_channels=model_channels,
        channel_multipliers=tuple(channel_multipliers),
        num_classes=num_classes,
        has_null_class=has_null_class,
        use_attention=use_attention,
        **network_options,
    )
    variances = (
        make_betas(beta_schedule, num_timesteps, beta_start, beta_end)
        if betas is None
        else torch.tensor(betas, dtype=torch.float64)
    )
    return DDPMModel(
        network,
        DiscreteSchedule(variances, zero_terminal_snr),
        PARAMETERIZATIONS[parameterization],
        image_shape=(in_channels, height, width),
        num_classes=num_classes,
        has_null_class=has_null_class,
        class_dropout_prob=class_dropout_prob,
        config=config,
    ).to(device)
