"""Checkpoints: one dictionary in one file, written whole or not at all, read without running code.

Keys, all but the first optional:

    model_state_dict       weights
    model_config           the arguments of `create_ddpm` that rebuild the network
    num_classes            None for an unconditional model
    class_names            of the classes, in the order of their labels
    ema_state_dict         of `snowmelt.EMA`
    sampling               arguments of `DiffusionSampler` that stand where it is not told otherwise
    optimizer_state_dict, scheduler_state_dict, rng_state, epoch, global_step, ...    what resuming needs
    optimizer_type, scheduler_type    the names of their classes, for a run with another one to be refused
    config                 the resolved YAML, for people to read
    format_version, snowmelt_version

A ``.pth`` file is torch's own format and holds all of it; a ``.safetensors`` file holds what sampling needs
(weights, EMA and the plain values), and leaves the optimizer's and the generators' states out.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from snowmelt._version import __version__
from snowmelt.errors import InputError
from snowmelt.files import atomic_write

__all__ = [
    "FORMAT_VERSION",
    "CheckpointError",
    "CheckpointNotFoundError",
    "blamed_on",
    "load_weights",
    "read_checkpoint",
    "save_checkpoint",
]

FORMAT_VERSION = 1

# What those keys hold that sampling reads
_KINDS: dict[str, type] = {
    "format_version": int,
    "model_config": dict,
    "ema_state_dict": dict,
    "class_names": list,
    "sampling": dict,
}
_ONLY_FOR_TRAINING = ("optimizer_state_dict", "scheduler_state_dict", "scaler_state_dict", "rng_state")
_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")  # what DDP and torch.compile put before names


class CheckpointError(InputError):
    """A checkpoint cannot be used; the message names the file and says what to do."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """There is no such file."""


def save_checkpoint(checkpoint: Mapping[str, Any], path: str | PathLike[str]) -> None:
    """Write `checkpoint` to `path`, whole or not at all.

    Args:
        checkpoint: the keys above; tensors, numbers, strings, lists and dictionaries.
        path: ends in ``.safetensors`` for a file to sample from, which leaves the optimizer's and the
            generators' states out and turns tuples into lists; any other name gets everything.

    Raises:
        ValueError: there is no model_state_dict.
        TypeError: it holds other objects, which `read_checkpoint` would refuse.

    >>> from tempfile import TemporaryDirectory
    >>> layer = nn.Linear(2, 1)
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.safetensors"
    ...     save_checkpoint({"model_state_dict": layer.state_dict(), "num_classes": 10}, path)
    ...     again = read_checkpoint(path)
    >>> torch.equal(again["model_state_dict"]["weight"], layer.weight), again["num_classes"]
    (True, 10)
    """
    path = Path(path)
    if "model_state_dict" not in checkpoint:
        raise ValueError(
            f"a checkpoint needs model_state_dict, got only {', '.join(checkpoint) or 'nothing'}"
        )
    checkpoint = {"format_version": FORMAT_VERSION, "snowmelt_version": __version__, **checkpoint}
    if path.suffix == ".safetensors":
        data = _to_safetensors({k: v for k, v in checkpoint.items() if k not in _ONLY_FOR_TRAINING})
        with atomic_write(path) as file:
            file.write(data)
    else:
        with atomic_write(path, "w+b") as file:
            torch.save(checkpoint, file)
            file.seek(0)
            if refused := torch.serialization.get_unsafe_globals_in_checkpoint(file):
                raise TypeError(
                    f"{path} was not written, for it could not be read again: a checkpoint holds tensors, "
                    f"numbers, strings, lists and dictionaries, got {_some(refused)}"
                )


def read_checkpoint(path: str | PathLike[str], map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Return the checkpoint in `path`. No code in the file is ever run.

    A bare state dict becomes ``{"model_state_dict": ...}``; the prefixes that wrappers leave in names
    (``module.``, ``_orig_mod.``) are taken off.

    Args:
        path: a file of `save_checkpoint`, or weights that torch.save or safetensors wrote.
        map_location: the device of the tensors.

    Raises:
        CheckpointNotFoundError: there is no such file.
        CheckpointError: it is a folder, broken, not a checkpoint, refused because it could run code, or
            made by a newer version of snowmelt.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            f"Checkpoint is a folder: {path}. Give the file inside it, such as latest.pth; "
            "snowmelt import makes one of a folder of diffusers"
        )
    if not path.exists():
        raise CheckpointNotFoundError(
            f"Checkpoint not found: {path}. Train one first, or correct generation.checkpoint"
        )
    torch.empty(0, device=map_location)  # an absent device is not the file's fault
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    checkpoint = read(path, map_location)
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"{path} is not a checkpoint: it holds {type(checkpoint).__name__}, not a dictionary. "
            "Save the model's state_dict(), or train with snowmelt"
        )
    if _are_weights(checkpoint):
        checkpoint = {"model_state_dict": checkpoint}
    for key, kind in _KINDS.items():
        if not isinstance(checkpoint.get(key, kind()), kind):
            raise CheckpointError(
                f"{path} is no checkpoint of snowmelt: its {key} is of type "
                f"{type(checkpoint[key]).__name__}, expected {kind.__name__}. Take another file, or write "
                f"one without {key}"
            )
    version = checkpoint.get("format_version", FORMAT_VERSION)
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {version}, made by snowmelt {checkpoint.get('snowmelt_version')}; this is "
            f"snowmelt {__version__}, which reads up to {FORMAT_VERSION}: update snowmelt"
        )
    if not _are_weights(checkpoint.get("model_state_dict")):
        raise CheckpointError(
            f"{path} has no weights under model_state_dict; its keys are "
            f"{_some(list(map(str, checkpoint))) or 'none'}. Give a checkpoint of snowmelt, or a state dict"
        )
    checkpoint["model_state_dict"] = _unwrapped(checkpoint["model_state_dict"])
    return checkpoint


def load_weights(module: nn.Module, state_dict: Mapping[str, Tensor], *, source: object) -> None:
    """Load `state_dict` into `module`, all of it or nothing.

    Args:
        module: keeps its device and dtype.
        state_dict: names and shapes as the module's.
        source: where the weights come from, for the message.

    Raises:
        CheckpointError: names or shapes differ; the module is as it was.

    >>> load_weights(nn.Linear(2, 1), {"weight": torch.zeros(1, 3)}, source="other.pth")
    Traceback (most recent call last):
    snowmelt.models.checkpoint.CheckpointError: other.pth does not fit the model, which was probably trained with ...
      missing: bias
      other shape: weight (file (1, 3), model (1, 2))
    """
    own = module.state_dict()
    problems = {
        "missing": [name for name in own if name not in state_dict],
        "unexpected": [name for name in state_dict if name not in own],
        "other shape": [
            f"{name} (file {tuple(state_dict[name].shape)}, model {tuple(own[name].shape)})"
            for name in own
            if name in state_dict and state_dict[name].shape != own[name].shape
        ],
    }
    if any(problems.values()):
        lines = [f"  {kind}: {_some(names)}" for kind, names in problems.items() if names]
        raise CheckpointError(
            f"{source} does not fit the model, which was probably trained with other options (image_size, "
            "model_channels, channel_multipliers, use_attention, num_classes, ...):\n" + "\n".join(lines)
        )
    module.load_state_dict(state_dict)


@contextmanager
def blamed_on(path: str | PathLike[str]) -> Iterator[None]:
    """Name the file whose contents are refused: a TypeError or ValueError becomes a CheckpointError.

    >>> with blamed_on("model.pth"):
    ...     nn.Linear(**{"width": 3})
    Traceback (most recent call last):
    snowmelt.models.checkpoint.CheckpointError: model.pth does not hold what it should: ...
    """
    try:
        yield
    except CheckpointError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not hold what it should: {error}. It was changed, or made by another version of "
            "snowmelt: take another file"
        ) from error


def _read_torch(path: Path, map_location: str | torch.device) -> Any:
    whole = zipfile.is_zipfile(path)  # its directory stands at the end; files of torch < 1.6 are no zip
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # on pickles by other programs
            return torch.load(path, map_location=map_location, weights_only=True, mmap=whole)
    except pickle.UnpicklingError as error:
        if whole or _starts_as_pickle(path):
            raise CheckpointError(
                f"{path} was not opened: it holds more than weights, and that could run code. If you trust "
                "it, load it with the program that made it, and save the model's state_dict() alone"
            ) from error
        raise _broken(path, error) from error
    except Exception as error:  # the unpickler stumbles over foreign bytes in many ways
        raise _broken(path, error) from error


def _starts_as_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == pickle.PROTO


def _broken(path: Path, error: Exception) -> CheckpointError:
    reason = re.split(r"\n|\. ", str(error))[0]  # torch goes on with advice that is not ours
    return CheckpointError(
        f"{path} ({path.stat().st_size:,} bytes) cannot be read: it is truncated, damaged, or not a "
        f"checkpoint at all. Copy it again, or take another one. ({type(error).__name__}: {reason})"
    )


def _to_safetensors(checkpoint: Mapping[str, Any]) -> bytes:
    """Return nested dictionaries of tensors and plain values as the bytes of a safetensors file."""
    tensors: dict[str, Tensor] = {}

    def split(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            tensors[name] = value.detach().contiguous().clone()
            return {"tensor": name}
        if isinstance(value, Mapping):
            return {key: split(item, f"{name}.{key}" if name else str(key)) for key, item in value.items()}
        return value

    plain = split(checkpoint, "")
    return safetensors.torch.save(tensors, metadata={"snowmelt": json.dumps(plain)})


def _read_safetensors(path: Path, map_location: str | torch.device) -> Any:
    try:
        with safetensors.safe_open(path, framework="pt", device=str(map_location)) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise _broken(path, error) from error

    def join(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value.keys() == {"tensor"}:
            return tensors[value["tensor"]]
        return {key: join(item) for key, item in value.items()}

    if "snowmelt" not in metadata:
        return tensors
    try:
        return join(json.loads(metadata["snowmelt"]))
    except (ValueError, LookupError) as error:
        raise _broken(path, error) from error


def _are_weights(value: object) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


def _unwrapped(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_WRAPPERS.sub("", name): value for name, value in state_dict.items()}


def _some(names: list[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
