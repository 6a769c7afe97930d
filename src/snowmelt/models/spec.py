"""The spec of a model: plain values from which it is built."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snowmelt.core import SCHEDULES, NoiseSchedule, find_time, make_schedule
from snowmelt.core.times import check_positive
from snowmelt.models.ddpm import DDPMModel
from snowmelt.models.model import DiffusionModel
from snowmelt.networks import UNet

__all__ = ["ModelSpec"]

DISCRETE = "ddpm-"  # what the names of the schedules on betas begin with
_BETAS = {  # the options of such a schedule, with their defaults
    name: parameter.default
    for name, parameter in inspect.signature(SCHEDULES["ddpm-linear"]).parameters.items()
}
_OWN = (
    "image_size",
    "in_channels",
    "num_classes",
    "has_null_class",
    "class_dropout_prob",
    "parameterization",
)


@dataclass(frozen=True)
class ModelSpec:
    """A U-Net and what it is trained for.

    Attributes:
        image_size: (H, W), multiples of 2 ** (stages - 1).
        in_channels: 1 for gray, 3 for colour.
        num_classes: None for an unconditional model.
        has_null_class: the classes are followed by a null class, which guidance needs.
        class_dropout_prob: share of training labels that the null class replaces.
        schedule: a key of `snowmelt.core.SCHEDULES`.
        schedule_options: as for `snowmelt.core.make_schedule`.
        parameterization: what the network predicts; None takes the usual one of the schedule.
        network: options of `snowmelt.networks.UNet`.

    >>> spec = ModelSpec((8, 8), in_channels=1, schedule="flow", network={"model_channels": 32})
    >>> spec.build().parameterization.name, ModelSpec.from_config(spec.to_config()) == spec
    ('flow', True)
    """

    image_size: tuple[int, int] = (32, 32)
    in_channels: int = 3
    num_classes: int | None = None
    has_null_class: bool = True
    class_dropout_prob: float = 0.1
    schedule: str = "ddpm-linear"
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    parameterization: str | None = None
    network: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Complete what a checkpoint should state. Setting it so is the way of frozen dataclasses."""
        if self.schedule.startswith(DISCRETE):
            options = {**_BETAS, **self.schedule_options}
            if options["betas"] is not None:
                options["num_timesteps"] = len(options["betas"])
            object.__setattr__(self, "schedule_options", options)
        if self.parameterization is None:
            object.__setattr__(self, "parameterization", self.make_schedule().usual_prediction)

    def make_schedule(self) -> NoiseSchedule:
        """Return the noise schedule."""
        return make_schedule(self.schedule, **self.schedule_options)

    def build(self) -> DiffusionModel:
        """Return the model, untrained.

        Raises:
            ValueError, TypeError: an option is unknown or out of range, or they contradict each other.
        """
        schedule = self.make_schedule()
        parameterization = self.parameterization or schedule.usual_prediction
        if parameterization == "eps" and schedule(1.0).alpha == 0:
            raise ValueError(
                f"{self.schedule} ends in pure noise here (zero_terminal_snr), where a network that predicts "
                "eps says nothing about the image: take parameterization v or x0"
            )
        if self.network.get("time_embedding") == "fourier":
            check_positive(find_time(schedule.time), schedule)
        # Before the network is built, which takes longest
        kind = DDPMModel if self.schedule.startswith(DISCRETE) else DiffusionModel
        network = UNet(
            self.image_size,
            self.in_channels,
            num_classes=self.num_classes,
            has_null_class=self.has_null_class,
            **self.network,
        )
        return kind(
            network,
            schedule,
            parameterization,
            image_shape=(self.in_channels, *self.image_size),
            num_classes=self.num_classes,
            null_class=self.num_classes if self.has_null_class else None,
            class_dropout_prob=self.class_dropout_prob,
            spec=self,
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelSpec:
        """Return the spec that `to_config` wrote, or that the arguments of `create_ddpm` say.

        Args:
            config: flat: the attributes above, the options of the network, and either ``schedule`` and
                ``schedule_options``, or ``beta_schedule`` and what belongs to it (``schedule="ddpm"``).
        """
        rest = dict(config)
        own = {name: rest.pop(name) for name in _OWN if name in rest}
        size = own.get("image_size", 32)
        own["image_size"] = (size, size) if isinstance(size, int) else tuple(size)
        own["num_classes"] = own.get("num_classes") or None
        betas = {name: rest.pop(name) for name in _BETAS if name in rest}
        curve = rest.pop("beta_schedule", "linear")
        schedule = rest.pop("schedule", "ddpm")
        if schedule == "ddpm":
            schedule = f"{DISCRETE}{curve}"
        options = rest.pop("schedule_options", {}) or (betas if schedule.startswith(DISCRETE) else {})
        return cls(**own, schedule=schedule, schedule_options=options, network=rest)

    def to_config(self) -> dict[str, Any]:
        """Return the spec as one flat dictionary, as JSON and checkpoints hold it."""
        height, width = self.image_size
        own = {name: getattr(self, name) for name in _OWN}
        own["image_size"] = height if height == width else [height, width]
        if self.schedule.startswith(DISCRETE):
            schedule = {"beta_schedule": self.schedule.removeprefix(DISCRETE), **self.schedule_options}
        else:
            schedule = {"schedule": self.schedule, "schedule_options": dict(self.schedule_options)}
        return {**own, **schedule, **self.network}
