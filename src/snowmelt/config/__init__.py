"""Configurations: YAML files in, validated and frozen objects out, and back. Nothing here loads torch."""

from __future__ import annotations

from snowmelt.config.load import ConfigError, load_config, resolve_output_path, save_config
from snowmelt.config.schema import Config

__all__ = ["Config", "ConfigError", "load_config", "resolve_output_path", "save_config"]
