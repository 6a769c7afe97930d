"""What a run changes of how the checkpoint that it goes on from was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from snowmelt.config import Config
from snowmelt.config.data import Augmentation, Balance
from snowmelt.config.training import Training
from snowmelt.differences import differences
from snowmelt.models import Checkpoint
from snowmelt.precision import AUTO

__all__ = ["changes", "settings"]

# The sections of `training` that change what is learned
LEARNING = ("loss", "times", "optimizer", "accumulation", "scheduler", "ema")


def changes(checkpoint: Checkpoint, config: Config, rate: float) -> list[str]:
    """Return a line for each setting of learning in which a run differs from that of its checkpoint."""
    lines = []
    if checkpoint.config is not None:
        lines = differences(settings(checkpoint.config), settings(config.model_dump(mode="json")))
    there, asked = checkpoint.training.get("precision") or "fp32", config.compute.precision
    if asked not in (None, AUTO, there):
        lines.append(f'compute.precision: "{there}" there, "{asked}" now')
    for group in checkpoint.training.get("optimizer_state_dict", {}).get("param_groups", [])[:1]:
        if not math.isclose(group["lr"], rate, rel_tol=1e-6):
            lines.append(f"the learning rate at this position: {group['lr']:.4g} there, {rate:.4g} now")
    return lines


def settings(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return those settings of a run that its weights depend on."""
    config = config or {}
    training = {k: v for k, v in config.get("training", {}).items() if k in LEARNING}
    if training:  # a file from before some keys were there means their defaults
        defaults = Training().model_dump(mode="json")
        training = {k: _completed(training.get(k), defaults[k]) for k in LEARNING}
    data = {k: v for k, v in config.get("data", {}).items() if k == "augmentation"}
    if data:
        data["augmentation"] = Augmentation().model_dump(mode="json") | data["augmentation"]
    loading = config.get("data", {}).get("loading", {})
    data["loading"] = {k: v for k, v in loading.items() if k not in ("num_workers", "pin_memory", "cache")}
    data["paths"] = {"train": config.get("data", {}).get("paths", {}).get("train")}
    data["balance"] = Balance().model_dump(mode="json") | config.get("data", {}).get("balance", {})
    data["split"] = config.get("data", {}).get("split")
    seed = config.get("compute", {}).get("seed")
    return {"compute.seed": seed, "model": config.get("model", {}), "data": data, "training": training}


def _completed(value: Any, default: Any) -> Any:
    if isinstance(value, Mapping) and isinstance(default, Mapping):
        return {**default, **value}
    return default if value is None else value
