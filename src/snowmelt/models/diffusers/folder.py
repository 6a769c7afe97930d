"""Diffusers' folders: a model or a pipeline on the disk, read as a checkpoint and written from one.

    README.md                                      the model card
    model_index.json                               of a pipeline: which part is what
    unet/config.json                               the network's options
    unet/diffusion_pytorch_model.safetensors       its weights
    unet_ema/                                      the same with averaged weights, if there are any
    scheduler/scheduler_config.json                the noise schedule, and how to sample

A model by itself is one folder with what ``unet`` holds, and old pipelines have all files in one folder. The
weights may be in several files, and in a variant such as ``diffusion_pytorch_model.fp16.safetensors``. No
diffusers is needed, and no pickle is ever opened.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, cast

import safetensors.torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.files import atomic_folder
from snowmelt.models.checkpoint import Checkpoint
from snowmelt.models.ddpm import DDPMModel
from snowmelt.models.diffusers.card import model_card
from snowmelt.models.diffusers.scheduler_config import (
    check_variance,
    complete_scheduler,
    sampling_method,
    schedule_options,
    scheduler_config,
    threshold_options,
)
from snowmelt.models.diffusers.unet_config import unet_config, unet_options
from snowmelt.models.spec import ModelSpec
from snowmelt.models.weights import CheckpointError, name_file_in_errors
from snowmelt.networks import UNet
from snowmelt.text import some

__all__ = ["read_folder", "write_folder"]

_PARTS = {"scheduler": "DDPMScheduler", "unet": "UNet2DModel"}
_WRITTEN = {"README.md", "model_index.json", *_PARTS}
_WEIGHTS = "diffusion_pytorch_model"
# The variant in its name, if it is one; an index, which names several files, comes after a single file
_WEIGHT_FILE = re.compile(
    rf"{_WEIGHTS}(?:\.(\w+))?\.safetensors|{_WEIGHTS}\.safetensors\.index(?:\.(\w+))?\.json"
)
_NETWORK = "network."  # what stands before the network's names in a checkpoint

# Layers of attention as diffusers named them before version 0.15, and as it does now
_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(rf"(?<=\.)({'|'.join(_RENAMED)})(?=\.(weight|bias)$)")


def read_folder(path: str | PathLike[str]) -> Checkpoint:
    """Return the model in a diffusers folder; `Checkpoint.read` is what calls this.

    Warns where the folder says nothing of a schedule, and where its scheduler samples as no plan does.

    Args:
        path: the folder of a UNet2DModel, or of a pipeline that is one and a scheduler, nothing else.

    Returns:
        A checkpoint in float32, whose method and threshold are those of the scheduler. It has averaged
        weights where ``unet_ema`` stands beside ``unet``; alone, ``unet_ema`` is the model.

    Raises:
        CheckpointError: it is not such a folder, or its weights are missing, broken or a pickle.
        InputError: an option cannot be expressed; the message names it.
    """
    path = Path(path)
    if (path / "model_index.json").exists():
        _check_parts(path / "model_index.json")
    there = [path / part for part in ("unet", "unet_ema") if (path / part).is_dir()] or [path]
    unet, ema = there[0], there[1] if len(there) > 1 else None
    scheduler = path / "scheduler" if (path / "scheduler").is_dir() else path
    if not (unet / "config.json").exists():
        raise CheckpointError(
            f"{path} is a folder, but none of diffusers: it has no model_index.json and no config.json. Give "
            "such a folder, or the file of a checkpoint, such as latest.pth"
        )
    with _named(unet / "config.json") as config:
        model_config = unet_options(config)
    if (scheduler / "scheduler_config.json").exists():
        with _named(scheduler / "scheduler_config.json") as config:
            model_config |= schedule_options(config)
            check_variance(config, learned=model_config["learned_variance"])
            method, threshold = sampling_method(config), threshold_options(complete_scheduler(config))
    else:
        warnings.warn(
            f"{path} has no scheduler_config.json: DDPM's schedule is taken, 1000 steps with linear betas, "
            "for a network that predicts eps",
            stacklevel=2,
        )
        model_config |= schedule_options({"_class_name": "DDPMScheduler"})
        method, threshold = None, "auto"
    with name_file_in_errors(unet / "config.json"):
        spec = ModelSpec.from_config(model_config)
    return Checkpoint(
        _read_weights(unet),
        spec,
        _read_average(ema) if ema is not None else None,
        num_classes=model_config["num_classes"],
        method=method,
        threshold=threshold,
        source=path,
    )


def write_folder(
    checkpoint: Checkpoint,
    path: str | PathLike[str],
    *,
    use_ema: bool = True,
    license: str = "unknown",
    overwrite: bool = False,
) -> None:
    """Write the model in a checkpoint as a folder of diffusers' DDPMPipeline, whole or not at all.

    Args:
        checkpoint: of a model on a discrete schedule.
        path: the folder to make.
        use_ema: write the EMA weights, where the checkpoint has some.
        license: of the model card, as the Hub names it.
        overwrite: replace a folder that this function wrote.

    Raises:
        CheckpointError: the checkpoint does not say how to build its network, or contradicts itself.
        InputError: the model cannot be expressed, or there is something in the folder already.

    >>> from tempfile import TemporaryDirectory
    >>> from snowmelt.models import create_ddpm
    >>> model = create_ddpm(8, 1, 32, (1, 2), parameterization="v")
    >>> with TemporaryDirectory() as parent:
    ...     write_folder(Checkpoint.of(model), Path(parent) / "model")
    ...     again = read_folder(Path(parent) / "model")
    >>> again.spec.parameterization, again.method.grid
    ('v', 'trailing')
    """
    path = Path(path)
    _check_free(path, overwrite)
    model = checkpoint.model()
    if not isinstance(model, DDPMModel):
        raise InputError(
            f"a model on {model.schedule!r} has no scheduler of diffusers that we write; expected a discrete "
            "schedule"
        )
    averaged = checkpoint.averaged(model) if use_ema else None
    if averaged is not None:
        averaged.apply_shadow()
    network = cast(UNet, model.network)  # or `unet_config` refuses it
    unet = unet_config(network.config)
    scheduler = scheduler_config(model.config, checkpoint.method, checkpoint.threshold)
    card = model_card(model, checkpoint, averaged=averaged is not None, license=license)
    with atomic_folder(path) as folder:
        for part in _PARTS:
            (folder / part).mkdir()
        parts = {part: ["diffusers", name] for part, name in _PARTS.items()}
        _write_json({"_class_name": "DDPMPipeline", **parts}, folder / "model_index.json")
        _write_json(unet, folder / "unet" / "config.json")
        _write_json(scheduler, folder / "scheduler" / "scheduler_config.json")
        # Of an image as it is, augment_embedding says nothing, and diffusers has no place for it
        weights = {
            name: value.contiguous()
            for name, value in network.state_dict().items()
            if not name.startswith("augment_embedding.")
        }
        safetensors.torch.save_file(
            weights, folder / "unet" / f"{_WEIGHTS}.safetensors", metadata={"format": "pt"}
        )
        (folder / "README.md").write_text(card, encoding="utf-8")


def _check_parts(index: Path) -> None:
    """Refuse a pipeline that is more than a network and a scheduler."""
    with _named(index) as parts:
        others = [
            name
            for name, part in parts.items()
            if isinstance(part, list) and any(part) and not name.startswith("_") and name not in _PARTS
        ]
        if others:
            raise InputError(
                f"{parts.get('_class_name')} has {', '.join(others)}, which cannot be expressed; expected a "
                f"pipeline of {' and '.join(_PARTS)} only"
            )


def _check_free(path: Path, overwrite: bool) -> None:
    """Refuse to write where something else is."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; expected the name of a folder to make")
    there = {entry.name for entry in path.iterdir()} if path.exists() else set()
    if others := sorted(there - _WRITTEN):
        raise InputError(f"{path} has other things in it, such as {others[0]}: name another folder")
    if there and not overwrite:
        raise InputError(f"{path} has a model in it: overwrite it (--overwrite), or name another folder")


@contextmanager
def _named(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSON file, and name it in every error about its contents."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(contents, dict):
        raise InputError(f"{path} holds {type(contents).__name__}; expected names and values")
    try:
        yield contents
    except InputError as error:
        raise type(error)(f"{path}: {error}") from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{path}: it holds a value of another kind than expected ({error}). Download it again"
        ) from error


def _write_json(contents: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(contents, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _read_average(folder: Path) -> dict[str, Any]:
    """Return the state of an `EMA` from a folder that diffusers' EMAModel wrote."""
    with _named(folder / "config.json") as config:
        numbers = {
            "decay": float(config.get("decay", 0.9999)),
            "num_updates": config.get("optimization_step", 0),
        }
    return {**numbers, "shadow": _read_weights(folder)}


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a network by our names, in float32."""
    weights: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        for name, value in Checkpoint.read(file).weights.items():
            weights[_NETWORK + _OLD_NAME.sub(_rename, name)] = (
                value.float() if value.is_floating_point() else value
            )
    return weights


def _weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of the weights: of the plain ones, or else of the only variant."""
    variants = {
        match[1] or match[2] or "": file
        for file in sorted(folder.iterdir())
        if (match := _WEIGHT_FILE.fullmatch(file.name))
    }
    if not variants and (pickled := sorted(folder.glob("*.bin"))):
        raise CheckpointError(
            f"{pickled[0]} was not opened: it is a pickle, and that could run code. If you trust it, load it "
            "with diffusers and save it anew: save_pretrained(NEW_FOLDER, safe_serialization=True)"
        )
    if not variants:
        raise CheckpointError(f"{folder} has no {_WEIGHTS}.safetensors: download it, or give another folder")
    if "" not in variants and len(variants) > 1:
        raise CheckpointError(
            f"{folder} has the variants {', '.join(variants)} of the weights, and no "
            f"{_WEIGHTS}.safetensors: leave one variant there"
        )
    chosen = variants.get("") or next(iter(variants.values()))
    return _shards(chosen) if chosen.suffix == ".json" else [chosen]


def _shards(index: Path) -> list[Path]:
    """Return the files that an index names."""
    with _named(index) as contents:
        named = contents.get("weight_map")
        names = list(named.values()) if isinstance(named, dict) else []
        if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise CheckpointError(
                "weight_map must name the file of each tensor: download the index again, or save the model "
                "anew"
            )
        files = [index.parent / name for name in sorted(set(names))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise CheckpointError(f"the folder lacks {some(missing)}: download what is missing")
    return files


def _rename(old: re.Match[str]) -> str:
    return _RENAMED[old[1]]
