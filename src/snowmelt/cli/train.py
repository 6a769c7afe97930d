"""``snowmelt train CONFIG``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.options import ConfigFile, DryRun, Overrides, Overwrite
from snowmelt.errors import as_input_errors

if TYPE_CHECKING:
    import torch

    from snowmelt.config import Config
    from snowmelt.training.run import Measure

__all__ = ["train", "train_from"]

RESUME = "set training.resume.enabled=true, which goes on from the last checkpoint"


def train(
    config_file: ConfigFile,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Train a model. Ctrl-C and SIGTERM save the work so far.

    With training.resume.enabled=true, the same command goes on where the run stopped, and starts it the first
    time.
    """
    with exit_codes(after_full_disk=RESUME):
        from snowmelt.config import load_config

        config = load_config(config_file, [*(overrides or []), "mode=train"])
        train_from(config, overwrite=overwrite, dry_run=dry_run)


def train_from(config: Config, *, overwrite: bool = False, dry_run: bool = False) -> None:
    """Check everything that can fail, then train the model of a configuration."""
    from snowmelt.device import resolve_device
    from snowmelt.training.run import TrainingRun

    with as_input_errors():  # nothing has been done yet
        device = resolve_device(config.compute.device)
        evaluated = config.training.evaluation.enabled
        run = TrainingRun(
            config,
            device,
            partial(_training_metrics, config, device) if evaluated else None,
            maximize=_more_is_better(config.training.validation.metric),
            overwrite=overwrite,
        )
        run.check()
    if dry_run:
        typer.echo(run.forecast())
    else:
        run.run()


def _training_metrics(config: Config, device: torch.device) -> Measure:
    """Return the metrics of generated images that are computed during training."""
    from snowmelt.evaluation.answers.training_metrics import TrainingMetrics
    from snowmelt.files import user_cache
    from snowmelt.formats import open_images

    options, shape = config.training.evaluation, config.model.architecture
    real = open_images(
        config.data.paths.train or "",
        image_size=shape.image_size,
        channels=shape.in_channels,
        background=config.data.background,
    )
    return TrainingMetrics(
        real,
        options.metrics,
        watch=config.training.validation.metric if config.training.validation.metric != "loss" else None,
        num_samples=options.num_samples,
        seed=config.compute.seed,
        guidance_scale=options.guidance_scale,
        extractor=options.extractor,
        device=device,
        cache=user_cache(),
    )


def _more_is_better(metric: str) -> bool:
    if metric == "loss":
        return False
    from snowmelt.evaluation.metrics import METRICS

    return METRICS[metric].better == "more"
