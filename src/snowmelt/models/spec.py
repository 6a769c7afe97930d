"""The spec of a model: plain values from which it is built."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import psutil
import torch

from snowmelt import limits
from snowmelt.core import SCHEDULES, NoiseSchedule, find_time, make_schedule
from snowmelt.core.times import check_positive
from snowmelt.models.ddpm import DDPMModel
from snowmelt.models.model import DiffusionModel
from snowmelt.networks import NETWORKS, DiT, UNet
from snowmelt.plans.words import lookup, suggest

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
_VARIANCE = "learned_variance"  # younger than the others, so that files say it only where it is true
_KINDS = {
    network: {name: kind for name, kind in get_type_hints(made.__init__).items() if name != "return"}
    for network, made in NETWORKS.items()
}
_WIDE = 1000  # channels or classes from which on weights are counted before they are made
_LARGEST = {
    "image_size": limits.SIDE,
    "num_classes": limits.CLASSES,
    "layers_per_block": limits.LAYERS,
    "depth": limits.LAYERS,
    "num_timesteps": limits.STEPS,
}


@dataclass(frozen=True)
class ModelSpec:
    """A network and what it is trained for.

    Attributes:
        image_size: (H, W), multiples of the network's `stride`.
        in_channels: 1 for gray, 3 for colour.
        num_classes: None for an unconditional model.
        has_null_class: the classes are followed by a null class, which guidance needs.
        class_dropout_prob: share of training labels that the null class replaces.
        schedule: a key of `snowmelt.core.SCHEDULES`.
        schedule_options: as for `snowmelt.core.make_schedule`.
        parameterization: what the network predicts; None takes the usual one of the schedule.
        learned_variance: its output has as many channels again, which say how much noise a step of ancestral
            sampling adds (Nichol & Dhariwal 2021); of discrete schedules.
        network: a key of `snowmelt.networks.NETWORKS`.
        network_options: of its constructor.

    >>> spec = ModelSpec((8, 8), in_channels=1, schedule="flow", network_options={"model_channels": 32})
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
    learned_variance: bool = False
    network: str = "unet"
    network_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the kind and the size of each value, and complete what a checkpoint should state.

        `build` checks what the values are together.
        """
        _check("network", self.network, str)
        kinds = lookup("network", self.network[:40], _KINDS)
        own = {name: getattr(self, name) for name in _OWN if name in kinds}
        for name, value in {**own, **self.network_options}.items():
            if name not in kinds:
                raise TypeError(f"the network {self.network} has no option {suggest(str(name)[:40], kinds)}")
            _check(name, value, kinds[name])
        _check("class_dropout_prob", self.class_dropout_prob, float)
        _check("schedule", self.schedule, str)
        _check("parameterization", self.parameterization, str | None)
        _check(_VARIANCE, self.learned_variance, bool)
        if self.learned_variance and not self.schedule.startswith(DISCRETE):
            raise ValueError(
                f"learned_variance is of the steps of a discrete schedule, and {self.schedule} has none: add "
                "schedule: ddpm beside it (model.diffusion.schedule), or leave it out"
            )
        for name, value in self.schedule_options.items():
            _check(name, value, int if name == "num_timesteps" else bool | float | Sequence[float] | None)
        if len(self.network_options.get("channel_multipliers", ())) > limits.STAGES:
            raise ValueError(f"channel_multipliers has at most {limits.STAGES} stages")
        if self.schedule.startswith(DISCRETE):
            options = {**_BETAS, **self.schedule_options}
            if options["betas"] is not None:
                options["num_timesteps"] = len(options["betas"])
            self._set(schedule_options=options)
        if self.parameterization is None:
            self._set(parameterization=self.make_schedule().usual_prediction)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the class is frozen, and this is its constructor

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
        if self.network_options.get("time_embedding") == "fourier":
            check_positive(find_time(schedule.time), schedule)
        # Before the network is built, which takes longest
        kind = DDPMModel if self.schedule.startswith(DISCRETE) else DiffusionModel
        network = self.make_network()
        return kind(
            network,
            schedule,
            parameterization,
            image_shape=(self.in_channels, *self.image_size),
            num_classes=self.num_classes,
            null_class=self.num_classes if self.has_null_class else None,
            class_dropout_prob=self.class_dropout_prob,
            learned_variance=self.learned_variance,
            spec=self,
        )

    def make_network(self) -> UNet | DiT:
        """Return the network, untrained."""
        options = {
            "num_classes": self.num_classes,
            "has_null_class": self.has_null_class,
            **({"out_channels": 2 * self.in_channels} if self.learned_variance else {}),
            **self.network_options,
        }
        make = partial(NETWORKS[self.network], self.image_size, self.in_channels, **options)
        widest = self.network_options.get("model_channels", 64) * max(
            self.network_options.get("channel_multipliers", (2,)), default=1
        )
        if widest > _WIDE or (self.num_classes or 0) > _WIDE:
            with torch.device("meta"):  # the same network without memory
                sizes = [parameter.numel() for parameter in make().parameters()]
            needed, there = 4 * sum(sizes), psutil.virtual_memory().total
            if needed > there:
                raise ValueError(
                    f"the network has {sum(sizes):,} weights of 4 bytes, and this machine has "
                    f"{there / 2**30:.0f} GiB of memory: take smaller model_channels, channel_multipliers, "
                    "layers_per_block, depth or num_classes"
                )
        return make()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelSpec:
        """Return the spec that `to_config` wrote, or that the arguments of `create_ddpm` say.

        Args:
            config: flat: the attributes above, the options of the network, and either ``schedule`` and
                ``schedule_options``, or ``beta_schedule`` and what belongs to it (``schedule="ddpm"``).
                Without ``network``, it is a U-Net.
        """
        rest = {**config}
        own = {name: rest.pop(name) for name in (*_OWN, _VARIANCE) if name in rest}
        size = own.get("image_size", 32)
        own["image_size"] = tuple(size) if isinstance(size, Sequence) else (size, size)
        own["num_classes"] = own.get("num_classes") or None
        betas = {name: rest.pop(name) for name in _BETAS if name in rest}
        curve = rest.pop("beta_schedule", "linear")
        schedule = rest.pop("schedule", "ddpm")
        _check("schedule", schedule, str)
        if schedule == "ddpm":
            schedule = f"{DISCRETE}{curve}"
        options = rest.pop("schedule_options", {}) or (betas if schedule.startswith(DISCRETE) else {})
        network = rest.pop("network", "unet")
        return cls(**own, schedule=schedule, schedule_options=options, network=network, network_options=rest)

    def to_config(self) -> dict[str, Any]:
        """Return the spec as one flat dictionary, as JSON and checkpoints hold it."""
        height, width = self.image_size
        own = {name: getattr(self, name) for name in _OWN}
        own["image_size"] = height if height == width else [height, width]
        own |= {_VARIANCE: True} if self.learned_variance else {}
        if self.schedule.startswith(DISCRETE):
            schedule = {"beta_schedule": self.schedule.removeprefix(DISCRETE), **self.schedule_options}
        else:
            schedule = {"schedule": self.schedule, "schedule_options": dict(self.schedule_options)}
        # U-Nets are older than this name: their files stay as they were
        network = {"network": self.network} if self.network != "unet" else {}
        return {**own, **schedule, **network, **self.network_options}


def _check(name: str, value: object, kind: Any) -> None:
    """Refuse a value of another kind than an annotation says, or of a size that no machine holds."""
    if not _fits(value, kind):
        words = str(getattr(kind, "__name__", kind)).replace("collections.abc.", "")
        raise TypeError(f"{name} must be {words}, got {str(value)[:60]!r}")
    largest = _LARGEST.get(name, limits.CHANNELS)
    for number in value if isinstance(value, Sequence) else (value,):
        if isinstance(number, int) and abs(number) > largest:
            raise ValueError(f"{name} must be at most {largest:,}, got a number of {len(str(number))} digits")


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is what an annotation says; true is no number, and a number is finite.

    >>> _fits([1, 2], int | Sequence[int]), _fits(True, int), _fits(1, float | None)
    (True, False, True)
    """
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is Sequence:
        (item,) = get_args(kind)
        return isinstance(value, list | tuple) and all(_fits(part, item) for part in value)
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    if kind is int:
        return isinstance(value, Integral)
    return isinstance(value, kind)
