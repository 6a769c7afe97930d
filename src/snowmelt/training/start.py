"""What training starts from: a model that somebody has trained, in place of random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from snowmelt.adapters import read_adm
from snowmelt.config import Config
from snowmelt.config.model import OF_BETAS
from snowmelt.config.training import Init
from snowmelt.errors import InputError
from snowmelt.models import Checkpoint, DiffusionModel, ModelSpec
from snowmelt.models.transfer_weights import transfer
from snowmelt.training.layers import freeze, set_rates

__all__ = ["Start"]

LATEST = ("latest.pth", "checkpoints/latest.pth")  # of a run, in its folder or that of its checkpoints

# The keys that say something about one schedule only, and about a null class only
_OF_SCHEDULE = OF_BETAS | {"betas", "learned_variance", "schedule_options"}
_OF_NULL_CLASS = {"has_null_class", "class_dropout_prob"}


class Start:
    """What `training.init` says. It is no resume: steps, optimizer and averages begin anew.

    Args:
        config: the configuration; without `training.init`, a start changes nothing.
        resumed: the checkpoint of a run that goes on. It has weights already, and its model is the one.

    Attributes:
        config: the same, in which the model to start from says what `model` leaves unstated.
        lines: what was done, a line for each thing.

    Raises:
        InputError: there is no such model, or it cannot be read.
    """

    def __init__(self, config: Config, resumed: Checkpoint | None = None) -> None:
        self._stated, self._init = config, config.training.init
        reads = self._init is not None and resumed is None
        self._checkpoint = _read(self._init) if self._init is not None and reads else None
        model = resumed if self._checkpoint is None else self._checkpoint
        self._spec = model.spec if model is not None and self._init is not None else None
        self.lines: list[str] = []

    @cached_property
    def config(self) -> Config:
        """The configuration, completed."""
        if self._spec is None:
            return self._stated
        return self._stated.model_copy(update={"model": self._stated.model.completed(self._left(self._spec))})

    def model_options(self) -> dict[str, Any]:
        """Return the options of the model to train, as `ModelSpec.from_config` takes them.

        The model to start from has options without a key, too.
        """
        others = {} if self._spec is None else self._left(self._spec)
        return {**others, **self.config.model.options()}

    def load_into(self, model: DiffusionModel, class_names: Sequence[str]) -> None:
        """Give a model the weights that it starts with, and keep some of them as they are."""
        if self._init is None:
            return
        if self._checkpoint is not None:
            self.lines += transfer(self._checkpoint, model, class_names, self._init.classes)
            self._checkpoint = None  # its memory
        self.lines += freeze(model, self._init.freeze)

    def set_rates(self, optimizer: Optimizer, model: DiffusionModel) -> None:
        """Give some layers a learning rate of their own."""
        if self._init is not None:
            self.lines += set_rates(optimizer, model, self._init.rates, self._init.unfreeze)

    def _left(self, spec: ModelSpec) -> dict[str, Any]:
        """Return those options of a spec that the configuration does not make meaningless."""
        with torch.device("meta"):  # the same network without memory, for the options that a file leaves out
            network = spec.make_network().config
        usual = {"schedule": "ddpm", "network": "unet", **network}
        options: Mapping[str, Any] = {**usual, **spec.to_config()}
        stated = self._stated.model.options(stated_only=True)
        if stated.get("network", spec.network) != spec.network:
            raise InputError(
                f"model.architecture.type is {stated['network']}, and the model to start from is a "
                f"{spec.network}: none of its weights fit. Leave the key out, or take another file"
            )
        left_out = {"num_classes", "out_channels"}  # those of the data, and those that follow from the rest
        if stated.get("schedule", options["schedule"]) != options["schedule"]:
            left_out |= _OF_SCHEDULE
        elif stated.keys() & _OF_SCHEDULE:
            left_out.add("betas")
        if not (spec.num_classes and spec.has_null_class):  # then a null class is added
            left_out |= _OF_NULL_CLASS
        return {name: value for name, value in options.items() if name not in left_out}


def _read(init: Init) -> Checkpoint:
    """Read what training starts from; of the folder of a run, the latest checkpoint."""
    path = Path(init.path)
    path = next((file for name in LATEST if (file := path / name).is_file()), path)
    return read_adm(path, **init.flags) if init.flags else Checkpoint.read(path)
