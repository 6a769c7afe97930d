"""The guidance that a configuration describes, with the networks that it names as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snowmelt.config.schema import Sampling
from snowmelt.core import Level
from snowmelt.denoisers.guidance import Guidance, make_guidance
from snowmelt.errors import InputError
from snowmelt.files import file_hash
from snowmelt.sampling import DiffusionSampler

__all__ = [
    "NETWORKS",
    "ScriptedClassifier",
    "build_guidance",
    "check_guidance",
    "describe_guidance",
    "load_weak",
]


class ScriptedClassifier(nn.Module):
    """A TorchScript module (x_t, t) -> logits, with t (B,) in [0, 1], as guidance calls a classifier."""

    def __init__(self, module: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.module = module

    def forward(self, x_t: Tensor, level: Level[float]) -> Tensor:
        """Return logits (B, K)."""
        return self.module(x_t, x_t.new_full((len(x_t),), level.t))


def load_weak(path: Path) -> nn.Module:
    """Return a checkpoint's model, with averaged weights if there are any: autoguidance's weaker one."""
    sampler = DiffusionSampler.from_pretrained(path, steps=1)
    if sampler.ema is not None:
        sampler.ema.apply_shadow()  # for good: nobody trains it
    model: nn.Module = sampler.model  # type: ignore[assignment]  # a checkpoint's model is a module
    return model


def load_classifier(path: Path) -> ScriptedClassifier:
    """Return the classifier in a TorchScript file."""
    try:
        return ScriptedClassifier(torch.jit.load(str(path), map_location="cpu"))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a TorchScript module ({str(error)[:200]}): save a classifier "
            "(x_t, t) -> logits with torch.jit.save"
        ) from error


# The options that are networks, given as files
NETWORKS: dict[str, Callable[[Path], nn.Module]] = {"weak": load_weak, "classifier": load_classifier}


def build_guidance(sampling: Sampling) -> Guidance:
    """Return what the section `guidance` describes; plain classifier-free guidance without it.

    Raises:
        InputError: a method or an option makes no sense, or a file of it cannot be used.
    """
    options: dict[str, Any] = sampling.guidance.options() if sampling.guidance is not None else {}
    for name in options.keys() & NETWORKS.keys():
        options[name] = NETWORKS[name](Path(options[name]))
    try:
        return make_guidance(options)
    except (TypeError, ValueError) as error:
        raise InputError(f"generation.sampling.guidance: {error}") from error


def check_guidance(sampler: DiffusionSampler, scale: float) -> None:
    """Let guidance say now what it would say later: whether it has a meaning for this model and plan.

    Raises:
        ValueError: it has none.
    """
    guidance, model = sampler.guidance, sampler.model
    if model.num_classes is None and guidance.needs_labels and scale not in (0.0, 1.0):
        raise InputError(f"guidance_scale is {scale:g}, but the model is unconditional: set it to 0.0")
    if guidance.guides(scale):
        guidance.wrap(model, scale, null_class=model.null_class, plan=sampler.plan)


def describe_guidance(sampling: Sampling) -> dict[str, Any]:
    """Return all that an image's bits owe to guidance beside its scale, as JSON can hold it.

    >>> describe_guidance(Sampling(guidance_scale=2.0))
    {'type': 'cfg'}
    """
    if sampling.guidance is None:
        return {"type": "cfg"}
    options = sampling.guidance.options()
    hashes = {f"{name}_sha256": file_hash(Path(options[name])) for name in options.keys() & NETWORKS.keys()}
    return {**options, **hashes}
