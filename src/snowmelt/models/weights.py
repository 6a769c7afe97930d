"""Load weights by name, all of them or none, and take off the prefixes that wrappers add."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

from torch import Tensor, nn

from snowmelt.errors import InputError
from snowmelt.text import some

__all__ = [
    "CheckpointError",
    "CheckpointNotFoundError",
    "is_shard",
    "load_weights",
    "name_file_in_errors",
    "not_finite",
    "unwrapped",
]

_WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod)\.")  # what DDP and torch.compile put into names


class CheckpointError(InputError):
    """A checkpoint cannot be used; the message names the file and says what to do."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """There is no such file."""


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names that they had before DDP or torch.compile wrapped parts of the model.

    Names that would become one are left as they are: these modules are called so by their author.

    >>> import torch
    >>> list(unwrapped({"module._orig_mod.weight": torch.zeros(1), "network._orig_mod.bias": torch.zeros(1)}))
    ['weight', 'network.bias']
    """
    plain = {_WRAPPERS.sub("", name): value for name, value in tensors.items()}
    return plain if len(plain) == len(tensors) else dict(tensors)


def is_shard(tensor: Tensor) -> bool:
    """Return whether this process holds only a part of a tensor: a DTensor of torch."""
    return hasattr(tensor, "full_tensor")  # importing DTensor takes as long as importing torch


def load_weights(module: nn.Module, state_dict: Mapping[str, Tensor], *, source: object) -> None:
    """Load `state_dict` into `module`, all of it or nothing.

    Args:
        module: keeps its device and dtype.
        state_dict: names and shapes as the module's. Wrappers do not count, on either side: what was saved
            of a compiled model goes into a plain one, and the other way round.
        source: where the weights come from, for the message.

    Raises:
        CheckpointError: names or shapes differ; the module is as it was.

    >>> import torch
    >>> load_weights(nn.Linear(2, 1), {"weight": torch.zeros(1, 3)}, source="other.pth")
    Traceback (most recent call last):
    snowmelt.models.weights.CheckpointError: other.pth does not fit the model, which was probably trained ...
      missing: bias
      other shape: weight (file (1, 3), model (1, 2))
    """
    own, state_dict = unwrapped(module.state_dict()), unwrapped(state_dict)
    problems = {
        "missing": [name for name in own if name not in state_dict],
        "unexpected": [name for name in state_dict if name not in own],
        "other shape": [
            f"{name} (file {tuple(state_dict[name].shape)}, model {tuple(own[name].shape)})"
            for name in own
            if name in state_dict and state_dict[name].shape != own[name].shape
        ],
        "other kind": [
            f"{name} (file {state_dict[name].dtype}, model {own[name].dtype})"
            for name in own
            if name in state_dict and state_dict[name].is_floating_point() != own[name].is_floating_point()
        ],
    }
    if any(problems.values()):
        lines = [f"  {kind}: {some(names)}" for kind, names in problems.items() if names]
        raise CheckpointError(
            f"{source} does not fit the model, which was probably trained with other options (image_size, "
            "model_channels, channel_multipliers, use_attention, num_classes, ...):\n" + "\n".join(lines)
        )
    names = module.state_dict().keys()
    module.load_state_dict({name: state_dict[plain] for name, plain in zip(names, own, strict=True)})


@contextmanager
def name_file_in_errors(path: str | PathLike[str] | None) -> Iterator[None]:
    """Name the file whose contents are refused: a TypeError or ValueError becomes a CheckpointError.

    >>> with name_file_in_errors("model.pth"):
    ...     nn.Linear(**{"width": 3})
    Traceback (most recent call last):
    snowmelt.models.weights.CheckpointError: model.pth does not hold what it should: ...
    """
    try:
        yield
    except CheckpointError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path or 'the checkpoint'} does not hold what it should: {error}. It was changed, or made by "
            "another version of snowmelt: take another file"
        ) from error


def not_finite(tree: Mapping[Any, Any], parent: str = "") -> Iterator[str]:
    """Yield the dotted names of the tensors in nested dictionaries that hold NaN or infinity.

    >>> import torch
    >>> list(not_finite({"a": {"b": torch.ones(1) / 0, "c": torch.ones(1)}, "d": "text"}))
    ['a.b']
    """
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from not_finite(value, f"{parent}{name}.")
        elif isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all():
            yield f"{parent}{name}"
