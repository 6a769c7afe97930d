"""The model that a configuration describes."""

from __future__ import annotations

from typing import Any

from snowmelt.config import Config

__all__ = ["model_options", "stated_model_options"]

# Where the arguments of create_ddpm stand in the file
_SECTIONS = ("architecture", "diffusion", "conditioning")


def model_options(config: Config) -> dict[str, Any]:
    """Return the arguments of `create_ddpm` that `config` describes."""
    return _options(config, stated_only=False)


def stated_model_options(config: Config) -> dict[str, Any]:
    """Return only those that the file (or an override) states, without defaults."""
    return _options(config, stated_only=True)


def _options(config: Config, stated_only: bool) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in _SECTIONS:
        section = getattr(config.model, name)
        options |= section.model_dump(exclude_unset=stated_only)
    conditional = options.pop("type", config.model.conditioning.type)
    if conditional in (None, "none") and "num_classes" in options:
        options["num_classes"] = None
    if "num_classes" in options:
        options["num_classes"] = options["num_classes"] or None
    return options
