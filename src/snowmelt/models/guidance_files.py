"""Guidance whose networks are files: autoguidance's weaker model, and a classifier of noisy images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snowmelt.denoisers.guidance import Guidance, make_guidance
from snowmelt.denoisers.guidance.classifier import ScriptedClassifier
from snowmelt.errors import InputError
from snowmelt.models.checkpoint import Checkpoint
from snowmelt.models.model import DiffusionModel

__all__ = ["NETWORKS", "read_guidance"]


def read_guidance(options: Mapping[str, Any], model: DiffusionModel | None = None) -> Guidance:
    """Return the guidance that a mapping describes, with the networks that it names as files.

    Args:
        options: as for `make_guidance`, with a path for each network.
        model: the model to guide; a weaker one must make the same images.

    Raises:
        InputError: a method or an option makes no sense, or a file of it cannot be used.
    """
    chosen = dict(options)
    for name in chosen.keys() & NETWORKS.keys():
        chosen[name] = NETWORKS[name](Path(chosen[name]))
    try:
        guidance = make_guidance(chosen)
    except (TypeError, ValueError) as error:
        raise InputError(f"guidance: {error}") from error
    for other in guidance.networks:
        if isinstance(other, DiffusionModel) and model is not None:
            _check_alike(other, model)
    return guidance


def _check_alike(weak: DiffusionModel, model: DiffusionModel) -> None:
    """Refuse a second model of other images or other classes."""
    if (weak.image_shape, weak.num_classes) != (model.image_shape, model.num_classes):
        raise InputError(
            f"guidance.weak makes images {weak.image_shape} of {weak.num_classes} classes, the checkpoint "
            f"{model.image_shape} of {model.num_classes}: both must be alike"
        )


def _read_weak(path: Path) -> nn.Module:
    """Return a checkpoint's model, with averaged weights if there are any."""
    checkpoint = Checkpoint.read(path)
    model = checkpoint.model()
    if checkpoint.ema is not None and (ema := checkpoint.averaged(model)) is not None:
        ema.apply_shadow()  # for good: this model is not trained
    return model


def _read_classifier(path: Path) -> nn.Module:
    """Return the classifier in a TorchScript file."""
    try:
        return ScriptedClassifier(torch.jit.load(str(path), map_location="cpu"))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a TorchScript module ({str(error)[:200]}): save a classifier "
            "(x_t, t) -> logits with torch.jit.save"
        ) from error


# The options that are networks, given as files
NETWORKS: dict[str, Callable[[Path], nn.Module]] = {"weak": _read_weak, "classifier": _read_classifier}
