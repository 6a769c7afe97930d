"""``snowmelt run CONFIG``: train or generate, as `mode` in the file says."""

from __future__ import annotations

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.options import ConfigFile, DryRun, Overrides, Overwrite

__all__ = ["run"]


def run(
    config_file: ConfigFile,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train or generate, as the file's `mode` says."""
    with exit_codes(), figures(as_json) as show:
        from snowmelt.config import load_config

        config = load_config(config_file, overrides or [])
        if config.mode == "train":
            from snowmelt.cli.train import RESUME, train_from

            with exit_codes(after_full_disk=RESUME):
                train_from(config, show, overwrite=overwrite, dry_run=dry_run)
        else:
            from snowmelt.cli.generate import generate_from

            generate_from(config, show, overwrite=overwrite, dry_run=dry_run)
