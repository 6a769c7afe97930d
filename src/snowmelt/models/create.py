"""Build untrained models."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch

from snowmelt.models.ddpm import DDPMModel
from snowmelt.models.model import DiffusionModel
from snowmelt.models.spec import ModelSpec
from snowmelt.networks import NETWORKS
from snowmelt.plans.words import lookup, plain

__all__ = ["create_ddpm", "create_model"]


def create_model(
    image_size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    model_channels: int | None = None,
    channel_multipliers: Sequence[int] | None = None,
    num_classes: int | None = None,
    *,
    schedule: str = "flow",
    parameterization: str | None = None,
    class_dropout_prob: float = 0.1,
    use_attention: bool | int | Sequence[bool] | None = None,
    network: str = "unet",
    has_null_class: bool = True,
    schedule_options: dict[str, Any] | None = None,
    device: str | torch.device = "cpu",
    **network_options: Any,
) -> DiffusionModel:
    """Build an untrained model on any noise schedule.

    Args:
        image_size: side of square images, or (H, W); a multiple of the network's `stride`.
        in_channels: 1 for gray, 3 for colour.
        model_channels: width of a U-Net's first stage, or of a transformer; None for the network's default,
            as in what follows.
        channel_multipliers: width of each stage of a U-Net, in units of `model_channels`.
        num_classes: None or 0 for an unconditional model.
        schedule: a key of `snowmelt.core.SCHEDULES`: ``flow``, ``edm``, ``vp``, ``cosine``, ``ddpm-linear``,
            ...
        parameterization: what the network predicts: ``eps``, ``x0``, ``v``, ``flow`` or ``edm``. None takes
            the one that the schedule's paper trains.
        class_dropout_prob: share of training labels replaced by the null class; guidance needs some.
        use_attention: in a U-Net: everywhere, nowhere, one bool a stage, or up to a side in pixels.
        network: a key of `snowmelt.networks.NETWORKS`: ``unet`` or ``dit``.
        has_null_class: the classes are followed by a null class, which guidance needs.
        schedule_options: of the schedule, such as ``{"sigma_max": 20.0}`` for ``edm``.
        device: where the weights are made.
        network_options: further options of the network (``dropout``, ``patch_size``, ...).

    Raises:
        ValueError, TypeError: an option is unknown or out of range.

    >>> model = create_model(image_size=8, in_channels=1, model_channels=32, schedule="edm")
    >>> model.schedule(1.0).sigma, model.parameterization.name
    (80.0, 'edm')
    """
    defaults = inspect.signature(lookup("network", network, NETWORKS)).parameters
    given = {
        "model_channels": model_channels,
        "channel_multipliers": channel_multipliers,
        "use_attention": use_attention,
    }
    given = {
        name: defaults[name].default if value is None else value
        for name, value in given.items()
        if value is not None or name in defaults
    }
    config = {
        "image_size": image_size,
        "in_channels": in_channels,
        "num_classes": num_classes,
        "has_null_class": has_null_class,
        "class_dropout_prob": class_dropout_prob,
        "schedule": schedule,
        "schedule_options": schedule_options,
        "parameterization": parameterization,
        "network": network,
        # JSON knows lists, not tuples: the spec is what a checkpoint gives back
        **plain(given),
        **network_options,
    }
    return ModelSpec.from_config(config).build().to(device)


def create_ddpm(
    image_size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    model_channels: int | None = None,
    channel_multipliers: Sequence[int] | None = None,
    num_classes: int | None = None,
    num_timesteps: int = 1000,
    beta_schedule: str = "linear",
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    class_dropout_prob: float = 0.1,
    use_attention: bool | int | Sequence[bool] | None = None,
    device: str | torch.device = "cpu",
    *,
    parameterization: str = "eps",
    zero_terminal_snr: bool = False,
    learned_variance: bool = False,
    betas: Sequence[float] | None = None,
    network: str = "unet",
    has_null_class: bool = True,
    **network_options: Any,
) -> DDPMModel:
    """Build an untrained model on a discrete schedule; `create_model` builds one on any.

    Args:
        image_size: as for `create_model`, and so are `in_channels`, `model_channels`,
            `channel_multipliers`, `num_classes`, `class_dropout_prob`, `use_attention`, `device`, `network`,
            `has_null_class` and `network_options`.
        num_timesteps: T, the number of trained indices.
        beta_schedule: ``linear``, ``cosine``, ``quadratic`` or ``sigmoid``.
        beta_start: first variance (not read by ``cosine``).
        beta_end: last variance (not read by ``cosine``).
        parameterization: what the network predicts: ``eps``, ``x0``, ``v``, ``flow`` or ``edm``.
        zero_terminal_snr: end in pure noise; needs a parameterization other than ``eps``.
        learned_variance: the network says too how much noise an ancestral step adds (Nichol & Dhariwal 2021).
        betas: the variances themselves, where no named schedule has them; `num_timesteps` is their number
            then, and `beta_schedule`, `beta_start` and `beta_end` are not read.

    Raises:
        ValueError, TypeError: an option is unknown or out of range.

    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32, channel_multipliers=(1, 2))
    >>> model.image_shape, model.num_classes, model.schedule.num_timesteps
    ((1, 8, 8), None, 1000)
    """
    model = create_model(
        image_size,
        in_channels,
        model_channels,
        channel_multipliers,
        num_classes,
        schedule=f"ddpm-{beta_schedule}",
        schedule_options={
            "num_timesteps": num_timesteps if betas is None else len(betas),
            "beta_start": beta_start,
            "beta_end": beta_end,
            "betas": None if betas is None else list(betas),
            "zero_terminal_snr": zero_terminal_snr,
        },
        parameterization=parameterization,
        class_dropout_prob=class_dropout_prob,
        use_attention=use_attention,
        network=network,
        has_null_class=has_null_class,
        device=device,
        learned_variance=learned_variance,
        **network_options,
    )
    return cast(DDPMModel, model)
