"""Checkpoint files: nested dictionaries of tensors and plain values, in torch's format and in safetensors."""

from __future__ import annotations

import json
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from snowmelt.checkpoint_header import HEADER
from snowmelt.digest import content_digest
from snowmelt.files import atomic_write
from snowmelt.models.weights import CheckpointError, CheckpointNotFoundError
from snowmelt.text import some

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
_MOST_VALUES = 1_000_000
_DEEPEST = 100
# What describes the model and how it is sampled: plain values, and no tensor among them
_PLAIN = ("format_version", "snowmelt_version", "model_config", "num_classes", "class_names", "sampling")
_ONLY_FOR_TRAINING = (
    "optimizer_state_dict",
    "scheduler_state_dict",
    "scaler_state_dict",
    "uncertainty_state_dict",
    "rng_state",
    "ema_tracked",
)


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
        torch.save(_interned(contents), file)
        file.seek(0)
        if refused := torch.serialization.get_unsafe_globals_in_checkpoint(file):
            raise TypeError(
                f"{path} was not written, for it could not be read again: a checkpoint holds tensors, "
                f"numbers, strings, lists and dictionaries, got {some(refused)}"
            )


def _interned(value: Any) -> Any:
    """Return a value whose equal strings are one object.

    Pickle writes an object once, so without this, equal contents would have other bytes after a resume.
    """
    if type(value) is str:
        return sys.intern(value)
    if type(value) is dict:
        return {_interned(key): _interned(each) for key, each in value.items()}
    return type(value)(map(_interned, value)) if type(value) in (list, tuple) else value


def read_contents(path: Path) -> dict[str, Any]:
    """Return the dictionary in `path`; a bare state dict becomes ``{"model_state_dict": ...}``."""
    if not path.exists():
        raise CheckpointNotFoundError(f"Checkpoint not found: {path}. Train one first, or correct the path")
    contents = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(contents, dict):
        raise CheckpointError(
            f"{path} is not a checkpoint: it holds {type(contents).__name__}, not a dictionary. "
            "Save the model's state_dict(), or train with snowmelt"
        )
    if path.suffix == ".safetensors":
        _check_values(contents, path)
    if _are_weights(contents):
        contents = {"model_state_dict": contents}
    for key, kind in _KINDS.items():
        if not isinstance(contents.get(key, kind()), kind):
            raise CheckpointError(
                f"{path} is not a checkpoint of snowmelt: its {key} is of type "
                f"{type(contents[key]).__name__}, expected {kind.__name__}. Take another file, or write "
                f"one without {key}"
            )
    for key in _PLAIN:
        if _storages(contents.get(key)):
            raise _refused(path, key, "holds a tensor, expected plain values")
    if not _are_weights(contents.get("model_state_dict")):
        raise CheckpointError(
            f"{path} has no weights under model_state_dict; its keys are "
            f"{some(list(map(str, contents))) or 'none'}. Give a checkpoint of snowmelt, or a state dict"
        )
    return contents


def _read_torch(path: Path) -> Any:
    # Its directory stands at the end; files of torch < 1.6 are not zip files
    whole = zipfile.is_zipfile(path)
    stored = _check_archive(path) if whole else 0
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
    _check_values(contents, path)
    if whole and not (isinstance(contents, dict) and isinstance(contents.get("digest"), str)):
        _check_checksums(path)
        loaded = sum(_storages(contents).values())
        if loaded != stored:
            raise CheckpointError(
                f"{path} is damaged: its tensors need {loaded:,} bytes, and it holds {stored:,}. Copy it "
                "again, or take another one"
            )
    return contents


def _check_archive(path: Path) -> int:
    """Check the directory of a zip file, before any of it is unpacked; return the bytes of its tensors.

    torch reads tensors where they stand in the file. So they must stand there as they are, once.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:
        raise _broken(path, error) from error
    names = {member.filename for member in members}
    unpacked = sum(member.file_size for member in members)
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        problem = "it was compressed after it was written: unpack it, and pack it without compression"
    elif len(names) < len(members):
        problem = "some of its parts are there twice: copy it again, or take another one"
    elif unpacked > path.stat().st_size:
        problem = (
            f"it claims to hold {unpacked:,} bytes, more than its own: copy it again, or take another one"
        )
    else:
        return sum(member.file_size for member in members if "/data/" in member.filename)
    raise CheckpointError(f"{path} is damaged, or not a checkpoint at all: {problem}")


def _check_checksums(path: Path) -> None:
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


def _storages(value: Any) -> dict[int, int]:
    """Return the bytes of each piece of memory under a value, by its address."""
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        return {storage.data_ptr(): storage.nbytes()}
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return {address: size for item in items for address, size in _storages(item).items()}


def _check_values(contents: Any, path: Path) -> None:
    """Refuse what a checkpoint cannot hold: it is looked at whole, before anything is computed from it.

    Tensors are dense, real and in memory, and together not much larger than the file: a number repeated a
    million million times is a short file. Everything else is a plain value, nested as people nest things.
    """
    budget = [_MOST_VALUES, max(2**26, 16 * path.stat().st_size)]

    def check(value: Any, key: str, depth: int) -> None:
        budget[0] -= 1
        if budget[0] < 0 or depth > _DEEPEST:
            raise _refused(path, key, f"is more than {_MOST_VALUES:,} values, or nested {_DEEPEST} deep")
        if isinstance(value, Tensor):
            if problem := _unusual(value):
                raise _refused(path, key, f"is a tensor {problem}, expected dense numbers")
            budget[1] -= value.numel() * value.element_size()
            if budget[1] < 0:
                raise _refused(path, key, "brings the tensors to many times the size of the file")
        elif isinstance(value, Mapping):
            for name, item in value.items():
                if not isinstance(name, str | int | float | bool | None):
                    raise _refused(path, key, f"has a key of type {type(name).__name__}, expected a text")
                check(item, f"{key}.{name}" if key else str(name), depth + 1)
        elif isinstance(value, list | tuple | set):
            for item in value:
                check(item, key, depth + 1)
        elif isinstance(value, bytearray):
            raise _refused(path, key, "is of type bytearray")

    check(contents, "", 0)


def _unusual(tensor: Tensor) -> str | None:
    """Return what keeps a tensor from being dense numbers in memory."""
    if tensor.is_meta:
        return "without data"
    if tensor.layout != torch.strided:
        return f"of layout {tensor.layout}"
    if tensor.is_quantized or tensor.is_complex() or tensor.is_nested:
        return f"of type {tensor.dtype}"
    return None


def _refused(path: Path, key: str, problem: str) -> CheckpointError:
    return CheckpointError(f"{path} is not a checkpoint: {key[:100] or 'it'} {problem}. Take another file")


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
    return safetensors.torch.save(tensors, metadata={HEADER: json.dumps(plain)})


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

    if HEADER not in metadata:
        if any(name.startswith("model_state_dict.") for name in tensors):
            raise CheckpointError(
                f"{path} is damaged: it holds the tensors of a checkpoint of snowmelt, but no description of "
                "them. Copy it again, or take another one"
            )
        return tensors
    try:
        return join(json.loads(metadata[HEADER]))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _broken(path, error) from error


def _are_weights(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )
