"""``snowmelt train CONFIG``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.options import ConfigFile, Overrides
from snowmelt.errors import as_input_errors

if TYPE_CHECKING:
    from snowmelt.config import Config
    from snowmelt.training.run import Measure

__all__ = ["train", "train_from"]


def train(config_file: ConfigFile, overrides: Overrides = None) -> None:
    """Train a model. Ctrl-C saves the work so far; resume with training.resume.enabled=true."""
    with exit_codes():
        from snowmelt.config import load_config

        train_from(load_config(config_file, [*(overrides or []), "mode=train"]))


def train_from(config: Config) -> None:
    """Check everything that can fail, then train what a configuration describes."""
    from snowmelt.device import resolve_device
    from snowmelt.training.run import TrainingRun

    with as_input_errors():  # nothing has been done yet
        run = TrainingRun(config, resolve_device(config.compute.device), _evaluation(config))
        run.check()
    run.run()


def _evaluation(config: Config) -> Callable[[Config], Measure] | None:
    if not config.training.evaluation.enabled:
        return None
    from snowmelt.evaluation.answers.training_metrics import (
        training_evaluation,
    )  # its libraries may be absent

    return training_evaluation
