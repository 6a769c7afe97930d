"""Checkpoint files: nested dictionaries of tensors and plain values, in torch's format and in safetensors."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from snowmelt.digest import content_digest
from snowmelt.files import atomic_write
from snowmelt.models.weights import CheckpointError, CheckpointNotFoundError, some

__all__ = ["read_contents", "write_contents"]

# What those keys hold that sampling reads
_KINDS: dict[str, type] = {
    "format_version": int,
    "digest": str,
    "model_config": dict,
    "ema_state_dict": dict,
    "class_names": list,
    "sampling": dict,
}
_ONLY_FOR_TRAINING = ("optimizer_state_dict", "scheduler_state_dict", "scaler_state_dict", "rng_state")


def write_contents(contents: Mapping[str, Any], path: Path) -> None:
    """Write a dictionary with its digest to `path`, whole or not at all; see `Checkpoint.write`."""
    left_out = {"digest", *(_ONLY_FOR_TRAINING if path.suffix == ".safetensors" else ())}
    contents = {key: value for key, value in contents.items() if key not in left_out}
    contents["digest"] = content_digest(contents)
    if path.suffix == ".safetensors":
        data = _to_safetensors(contents)
        with atomic_write(path) as file:
            file.write(data)
        return
    with atomic_write(path, "w+b") as file:
        torch.save(contents, file)
        file.seek(0)
        if refused := torch.serialization.get_unsafe_globals_in_checkpoint(file):
            raise TypeError(
                f"{path} was not written, for it could not be read again: a checkpoint holds tensors, "
                f"numbers, strings, lists and dictionaries, got {some(refused)}"
            )


def read_contents(path: Path) -> dict[str, Any]:
    """Return the dictionary in `path`; a bare state dict becomes ``{"model_state_dict": ...}``."""
    if not path.exists():
        raise CheckpointNotFoundError(
            f"Checkpoint not found: {path}. Train one first, or correct generation.checkpoint"
        )
    contents = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(contents, dict):
        raise CheckpointError(
            f"{path} is not a checkpoint: it holds {type(contents).__name__}, not a dictionary. "
            "Save the model's state_dict(), or train with snowmelt"
        )
    if _are_weights(contents):
        contents = {"model_state_dict": contents}
    for key, kind in _KINDS.items():
        if not isinstance(contents.get(key, kind()), kind):
            raise CheckpointError(
                f"{path} is not a checkpoint of snowmelt: its {key} is of type "
                f"{type(contents[key]).__name__}, expected {kind.__name__}. Take another file, or write "
                f"one without {key}"
            )
    if not _are_weights(contents.get("model_state_dict")):
        raise CheckpointError(
            f"{path} has no weights under model_state_dict; its keys are "
            f"{some(list(map(str, contents))) or 'none'}. Give a checkpoint of snowmelt, or a state dict"
        )
    return contents


def _read_torch(path: Path) -> Any:
    whole = zipfile.is_zipfile(
        path
    )  # its directory stands at the end; files of torch < 1.6 are not zip files
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # on pickles by other programs
            contents = torch.load(path, map_location="cpu", weights_only=True, mmap=whole)
    except pickle.UnpicklingError as error:
        if whole or _starts_as_pickle(path):
            raise CheckpointError(
                f"{path} was not opened: it holds more than weights, and that could run code. If you trust "
                "it, load it with the program that made it, and save the model's state_dict() alone"
            ) from error
        raise _broken(path, error) from error
    except Exception as error:  # the unpickler stumbles over foreign bytes in many ways
        raise _broken(path, error) from error
    if whole and not (isinstance(contents, dict) and "digest" in contents):
        _check_archive(path)
    return contents


def _check_archive(path: Path) -> None:
    """Verify the checksums of a zip file: reading it through a memory map never looks at them."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:
        raise _broken(path, error) from error
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: its part {damaged} does not match its checksum. Copy it again, or take "
            "another one"
        )


def _starts_as_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == pickle.PROTO


def _broken(path: Path, error: Exception) -> CheckpointError:
    reason = re.split(r"\n|\. ", str(error))[0]  # torch goes on with advice that is not ours
    return CheckpointError(
        f"{path} ({path.stat().st_size:,} bytes) cannot be read: it is truncated, damaged, or not a "
        f"checkpoint at all. Copy it again, or take another one. ({type(error).__name__}: {reason})"
    )


def _to_safetensors(contents: Mapping[str, Any]) -> bytes:
    """Return nested dictionaries of tensors and plain values as the bytes of a safetensors file."""
    tensors: dict[str, Tensor] = {}

    def split(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            tensors[name] = value.detach().contiguous().clone()
            return {"tensor": name}
        if isinstance(value, Mapping):
            return {key: split(item, f"{name}.{key}" if name else str(key)) for key, item in value.items()}
        return value

    plain = split(contents, "")
    return safetensors.torch.save(tensors, metadata={"snowmelt": json.dumps(plain)})


def _read_safetensors(path: Path) -> Any:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
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
        if any(name.startswith("model_state_dict.") for name in tensors):
            raise CheckpointError(
                f"{path} is damaged: it holds the tensors of a checkpoint of snowmelt, but no description of "
                "them. Copy it again, or take another one"
            )
        return tensors
    try:
        return join(json.loads(metadata["snowmelt"]))
    except (ValueError, LookupError) as error:
        raise _broken(path, error) from error


def _are_weights(value: object) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(v, Tensor) for v in value.values())
