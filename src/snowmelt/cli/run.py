"""``snowmelt run CONFIG``: train or generate, as `mode` in the file says."""

from __future__ import annotations

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.options import ConfigFile, Overrides

__all__ = ["run"]


def run(config_file: ConfigFile, overrides: Overrides = None) -> None:
    """Train or generate, as the file's `mode` says."""
    with exit_codes():
        from snowmelt.config import load_config

        config = load_config(config_file, overrides or [])
        if config.mode == "train":
            from snowmelt.cli.train import train

            train(config_file, overrides)
        else:
            from snowmelt.cli.generate import generate_from

            generate_from(config)
