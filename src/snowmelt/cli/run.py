"""``snowmelt run CONFIG``: train or generate, as `mode` in the file says."""

from __future__ import annotations

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.options import ConfigFile, DryRun, Overrides, Overwrite

__all__ = ["run"]


def run(
    config_file: ConfigFile,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Train or generate, as the file's `mode` says."""
    with exit_codes():
        from snowmelt.config import load_config

        if load_config(config_file, overrides or []).mode == "train":
            from snowmelt.cli.train import train

            train(config_file, overrides, overwrite=overwrite, dry_run=dry_run)
        else:
            from snowmelt.cli.generate import generate

            generate(config_file, overrides, overwrite=overwrite, dry_run=dry_run)
