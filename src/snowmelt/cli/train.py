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

__all__ = ["train"]

MORE_IS_BETTER = frozenset({"inception_score", "precision", "recall", "density", "coverage"})


def train(config_file: ConfigFile, overrides: Overrides = None) -> None:
    """Train a model. Ctrl-C saves the work so far; resume with training.resume.enabled=true."""
    with exit_codes():
        from snowmelt.build.device import resolve_device
        from snowmelt.config import load_config
        from snowmelt.training.run import TrainingRun

        config = load_config(config_file, [*(overrides or []), "mode=train"])
        with as_input_errors():  # nothing has been done yet: it is the input
            device = resolve_device(config.compute.device)
            maximize = config.training.validation.metric in MORE_IS_BETTER
            run = TrainingRun(config, device, _evaluation(config), maximize=maximize)
            run.check()
        run.run()


def _evaluation(config: Config) -> Callable[[Config], Measure] | None:
    if not config.training.evaluation.enabled:
        return None
    from snowmelt.build.evaluation import training_evaluation  # its libraries are not needed otherwise

    return training_evaluation
