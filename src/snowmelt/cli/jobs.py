"""``snowmelt train | generate | run | inspect``: what a configuration describes, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.errors import InputError

__all__ = ["generate", "inspect", "run", "train"]

ConfigFile = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        help="YAML file; configs/diffusion has commented ones. - for none, with changes only.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.SUB=VALUE]...", help="Changes to the file, e.g. training.epochs=5"),
]


def train(config_file: ConfigFile, overrides: Overrides = None) -> None:
    """Train a model. Ctrl-C saves the work so far; resume with training.resume.enabled=true."""
    _run(config_file, overrides, "train")


def generate(
    config_file: ConfigFile,
    overrides: Overrides = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but warnings.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove the images that are there, and start anew.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and say what it would take; write nothing.")
    ] = False,
) -> None:
    """Generate images from a checkpoint. Loads no training code and no data.

    The same command again goes on where it was stopped. Start it with torchrun to share the work:
    torchrun --nproc-per-node=2 -m snowmelt generate CONFIG
    """
    _run(config_file, overrides, "generate", quiet=quiet, overwrite=overwrite, dry_run=dry_run)


def run(config_file: ConfigFile, overrides: Overrides = None) -> None:
    """Train or generate, as the file's `mode` says."""
    _run(config_file, overrides, None)


def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A generated PNG file, or its folder.")],
) -> None:
    """Show how a generated image came about, and the command that makes it again."""
    with exit_codes():
        from snowmelt.generation.report import inspect

        typer.echo(inspect(path))


def _run(config_file: Path, overrides: list[str] | None, mode: str | None, **options: bool) -> None:
    with exit_codes():
        from snowmelt.config import load_config

        config = load_config(config_file, [*(overrides or []), *([f"mode={mode}"] if mode else [])])
        prepare: Callable[..., Callable[[], object]]
        if config.mode == "train":
            from snowmelt.build.training import prepare_training as prepare
        else:
            from snowmelt.build.generation import prepare_generation as prepare
        try:
            job = prepare(config, **options)
        except (ValueError, OSError) as error:  # nothing has been done yet: it is the input
            raise InputError(str(error)) from error
        job()
