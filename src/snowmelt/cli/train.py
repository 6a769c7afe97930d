"""``snowmelt train CONFIG`` and ``snowmelt train DATA --budget TIME``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.figures import AsJson, Show, figures
from snowmelt.cli.options import Overrides, Overwrite
from snowmelt.cli.parsing import is_config
from snowmelt.errors import InputError, as_input_errors

if TYPE_CHECKING:
    import torch

    from snowmelt.config import Config
    from snowmelt.data import DiffusionDataLoader
    from snowmelt.training.run import Measure

__all__ = ["train", "train_from"]

RESUME = "set training.resume.enabled=true, which goes on from the last checkpoint"


Source = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG|DATA",
        help="YAML file; see configs/diffusion. - stands for an empty file. Or images: a folder, or a data "
        "set such as digits; then --budget is needed.",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Such as 30m or 1h30m: the run ends after it. Images get a configuration that fits it.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check everything, take a few steps, and say how long the run takes, how much memory it needs, "
        "how it learns and what comes between its steps; write nothing. Of images, print the configuration.",
    ),
]


def train(
    source: Source,
    overrides: Overrides = None,
    budget: Budget = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a model. Ctrl-C and SIGTERM save the work so far.

    With training.resume.enabled=true, the same command goes on where the run stopped, and starts it the first
    time.
    """
    with exit_codes(after_full_disk=RESUME), figures(as_json) as show:
        from snowmelt.config import load_config

        changes = list(overrides or [])
        if is_config(source):
            changes += [f"training.budget={budget}"] if budget is not None else []
            config = load_config(source, [*changes, "mode=train"])
        else:
            config = _proposed(str(source), budget, changes, overwrite=overwrite, dry_run=dry_run)
        train_from(config, show, overwrite=overwrite, dry_run=dry_run)


def _proposed(data: str, budget: str | None, changes: list[str], *, overwrite: bool, dry_run: bool) -> Config:
    """Look at the images, measure this machine, and return a configuration that fits both and the budget.

    It is written into the folder of the run, and printed. A resumed run takes the one that it began with.
    """
    from omegaconf import OmegaConf

    from snowmelt.config import load_config
    from snowmelt.device import resolve_device
    from snowmelt.files import atomic_write
    from snowmelt.training.proposal import Look, minimal, propose, settled
    from snowmelt.training.run import TrainingRun

    if budget is None:
        raise InputError(
            f"{data} is no configuration (a .yaml file). To train on it as a folder of images or a data set, "
            "say how long that may take, such as --budget 30m"
        )

    look = Look.at(data)
    first = load_config("-", [*minimal(look, budget).words(), *changes])
    path = Path(first.output.base_dir) / "budget.yaml"
    if first.training.resume.enabled and path.exists():  # the network is what it was
        return load_config(path, [f"training.budget={budget}", *changes])
    device = resolve_device(first.compute.device)
    if not overwrite:
        TrainingRun(first, device).check_folder()
    stated: Any = OmegaConf.to_container(OmegaConf.from_dotlist(changes))
    with as_input_errors():
        proposal = settled(
            propose(look, budget, device, stated=stated),
            look,
            device,
        )
    config = load_config("-", proposal.words())
    if dry_run:
        typer.echo(proposal.text())
        return config
    with atomic_write(path, "w") as file:
        file.write(proposal.text())
    again = shlex.join(["snowmelt", "train", str(path)])
    typer.echo("\n".join([*proposal.reasons, f"The same without measuring: {again}"]))
    return config


def train_from(config: Config, show: Show, *, overwrite: bool = False, dry_run: bool = False) -> None:
    """Check everything that can fail, then train the model of a configuration.

    Args:
        config: what to train, on what, and how.
        show: is given the figures.
        overwrite: remove what an earlier run has left.
        dry_run: train nothing, and tell what a run would do.
    """
    from snowmelt.device import resolve_device
    from snowmelt.training.accelerator import is_first_process
    from snowmelt.training.forecast import forecast
    from snowmelt.training.run import TrainingRun

    with as_input_errors():  # nothing has been done yet
        device = resolve_device(config.compute.device)
        evaluated = config.training.evaluation.enabled
        run = TrainingRun(
            config,
            device,
            (lambda data: _training_metrics(run.config, device, data)) if evaluated else None,
            maximize=_more_is_better(config.training.validation.metric),
            overwrite=overwrite,
        )
        run.check()
    if dry_run:
        told = forecast(run)
        show(told.figures, told)
        return
    folder, done = run.run(), run.trainer.progress
    if is_first_process():
        found = {
            "checkpoints": folder,
            "images": done.images,
            "steps": done.global_step,
            "epochs": done.epoch,
        }
        show(found, None)


def _training_metrics(config: Config, device: torch.device, data: DiffusionDataLoader) -> Measure:
    """Return the metrics of generated images that are computed during training."""
    from snowmelt.evaluation.answers.training_metrics import TrainingMetrics
    from snowmelt.files import user_cache
    from snowmelt.formats import open_images

    options, shape = config.training.evaluation, config.model.architecture
    real = open_images(
        config.data.paths.train or "",
        image_size=shape.image_size,
        channels=min(shape.in_channels, 3),  # alpha is laid on the background
        background=config.data.background,
        classes=data.division is None or data.division.classes,
    )
    if data.division is not None:
        real = data.division.of(real).part("train")
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
