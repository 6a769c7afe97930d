"""Damage to checkpoints, for `fuzz`: to a file's bytes, to its archive, and to what is written in it."""

from __future__ import annotations

import copy
import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from snowmelt import EMA, Checkpoint, create_ddpm
from snowmelt.digest import content_digest
from snowmelt.models import DDPMModel
from snowmelt.models.checkpoint_file import read_contents
from snowmelt.models.weights import CheckpointError
from snowmelt.plans import Method

__all__ = ["damaged", "model", "places", "prepare"]

# Files that carry a checksum of their contents: a digest, or a zip archive's
CHECKED = ("whole.pth", "whole.safetensors", "bare.pth", "old.pth")


def model() -> DDPMModel:
    """Return a small model with two classes."""
    return create_ddpm(8, 1, 8, (1, 2), 2, num_timesteps=20, norm_groups=4, layers_per_block=1)


def prepare(folder: Path) -> None:
    """Write a checkpoint in every format that is read."""
    net = model()
    weights = net.state_dict()
    optimizer = torch.optim.Adam(net.parameters())
    whole = Checkpoint.of(
        net,
        EMA(net),
        class_names=["a", "b"],
        method=Method.parse("ddim:2 eta=0.5"),
        guidance={"type": "cfg", "interval": [0.3, 3.0]},
        training={"epoch": 1, "global_step": 2, "optimizer_state_dict": optimizer.state_dict()},
        config={"experiment": "fuzz"},
    )
    whole.write(folder / "whole.pth")
    whole.write(folder / "whole.safetensors")
    torch.save(weights, folder / "bare.pth")
    torch.save(weights, folder / "ancient.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(weights, folder / "bare.safetensors")
    sampling = {"solver": "ddpm", "steps": 2, "grid": "leading", "threshold": None}
    old = {"format_version": 1, "model_config": net.config, "model_state_dict": weights, "sampling": sampling}
    torch.save(old, folder / "old.pth")


def damaged(
    rng: random.Random,
    folder: Path,
    values: list[Any],
    command: Callable[..., tuple[str, str]],
    before_any_work: Callable[[], AbstractContextManager[None]],
) -> tuple[str, str, str]:
    """Damage a checkpoint, use it, and return the change, what went wrong, and details."""
    work = folder / "fuzz"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    must_fail = False
    if payload := rng.random() < 0.5:
        name = rng.choice(CHECKED)
        path, change = _other_bytes(rng, folder / name, work)
    else:
        name = rng.choice((*CHECKED, "bare.safetensors", "ancient.pth"))
        path, change, must_fail = _other_contents(rng, folder / name, work, values)
    change = f"{name}: {change}"

    if payload:
        try:
            if Checkpoint.read(path) != Checkpoint.read(folder / name):
                return change, "damaged weights loaded", ""
        except CheckpointError:
            pass
        except Exception:
            pass  # the command shows it
    out = "output.base_dir=fuzz/out"
    architecture = [f"model.architecture.{k}={json.dumps(v)}" for k, v in ARCHITECTURE.items()]
    if rng.random() < 0.8:
        options = [f"generation.checkpoint={path}", "generation.sampling.num_samples=1", out]
        problem, details = command("generate", "-", *options, *([] if "bare" not in name else architecture))
        if not problem and details.startswith("exit 2") and any(p != path for p in work.rglob("*.*")):
            problem = "a file left behind"
        if not problem and must_fail and details.startswith("exit 0"):
            problem = "what is no weight was loaded"
    else:
        resume = ["training.resume.enabled=true", f"training.resume.checkpoint={path}", *architecture, out]
        with before_any_work():
            problem, details = command("train", "-", "data.paths.train=images", *resume)
    return change, problem, details


ARCHITECTURE = {
    "image_size": 8,
    "in_channels": 1,
    "model_channels": 8,
    "channel_multipliers": [1, 2],
    "norm_groups": 4,
    "layers_per_block": 1,
}


# -- bytes -------------------------------------------------------------------------------------------------


def _other_bytes(rng: random.Random, source: Path, work: Path) -> tuple[Path, str]:
    path, data = work / source.name, bytearray(source.read_bytes())
    place = rng.randrange(len(data))
    end = min(len(data), place + rng.choice((1, 16, 512, 4096)))
    actions = ["a flipped bit", "zeros", "noise", "cut off", "cut out", "put in", "copied over"]
    if source.suffix == ".pth":
        actions += [
            "a member gone",
            "a member twice",
            "a member shorter",
            "a member changed",
            "compressed",
            "renamed",
        ]
    match action := rng.choice(actions):
        case "a flipped bit":
            data[place] ^= 1 << rng.randrange(8)
        case "zeros":
            data[place:end] = bytes(end - place)
        case "noise":
            data[place:end] = rng.randbytes(end - place)
        case "cut off":
            del data[place:]
        case "cut out":
            del data[place:end]
        case "put in":
            data[place:place] = rng.randbytes(end - place)
        case "copied over":
            start = rng.randrange(len(data))
            data[place:end] = data[start : start + end - place]
        case _:
            data = bytearray(_other_archive(rng, bytes(data), action))
    path.write_bytes(data)
    return path, f"{action} at {place}-{end}"


def _other_archive(rng: random.Random, data: bytes, action: str) -> bytes:
    """Return a zip file whose checksums are right, and whose members are not."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    number = rng.randrange(len(members))
    name, content = members[number]
    compression = zipfile.ZIP_STORED
    if action == "a member gone":
        del members[number]
    elif action == "a member twice":
        members.append((name, bytes(len(content))))
    elif action == "a member shorter":
        members[number] = (name, content[: len(content) // 2])
    elif action == "a member changed" and b"digest" in data:  # nothing else could show it
        members[number] = (name, content[:-1] + bytes([content[-1] ^ 1]) if content else b"x")
    elif action == "renamed":
        members[number] = (name + "x", content)
    else:
        compression = zipfile.ZIP_DEFLATED
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return written.getvalue()


# -- contents ----------------------------------------------------------------------------------------------


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each place in nested dictionaries and lists, as its holder and its key."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(entries):
        yield tree, key
        yield from places(value)


def _other_contents(
    rng: random.Random, source: Path, work: Path, values: list[Any]
) -> tuple[Path, str, bool]:
    contents = copy.deepcopy(read_contents(source))
    contents.pop("digest", None)
    suffix = rng.choice((".pth", ".pth", source.suffix))
    found = list(places(contents))
    tops = [(contents, key) for key in contents]
    plain = [place for place in found if not isinstance(place[0][place[1]], Tensor)]
    tensors = [place for place in found if isinstance(place[0][place[1]], Tensor)]
    changes, must_fail = [], False
    for _ in range(rng.choice((1, 1, 1, 2))):
        holder, key = rng.choice(rng.choice((tops, plain, plain, tensors)))
        old = holder.get(key) if isinstance(holder, dict) else holder[key] if key < len(holder) else None
        if isinstance(old, Tensor):
            kind = rng.choice(list(TENSORS))
            holder[key] = TENSORS[kind](old)
            is_weight = holder is contents.get("model_state_dict")
            must_fail |= kind in NO_WEIGHTS and is_weight and old.is_floating_point() and old.numel() > 0
            changes.append(f"{key} {kind}")
        elif rng.random() < 0.2 and isinstance(holder, dict):
            holder.pop(key, None)
            changes.append(f"{key} gone")
        elif rng.random() < 0.1:
            holder[key] = torch.ones(2)
            changes.append(f"{key} a tensor")
        elif rng.random() < 0.1 and isinstance(old, dict):
            old[rng.choice(("x", "layers_per_block", "betas", 3, "plan", "preset"))] = rng.choice(values)
            changes.append(f"a new key in {key}")
        else:
            holder[key] = rng.choice(values)
            changes.append(f"{key} = {str(holder[key])[:60]}")
    path = work / f"a{suffix}"
    change = "; ".join(changes)
    if suffix == ".safetensors" and "model_state_dict" in contents:
        try:
            path.write_bytes(_as_safetensors(contents))
            return path, change, must_fail
        except Exception:  # not everything can be said in this format
            path = work / "a.pth"
    if rng.random() < 0.7:
        try:
            contents["digest"] = content_digest(contents)
        except Exception:
            change += "; no digest"
    torch.save(contents, path)
    return path, change, must_fail


def _as_safetensors(contents: dict[str, Any]) -> bytes:
    tensors: dict[str, Tensor] = {}

    def split(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            tensors[name] = value.contiguous().clone()
            return {"tensor": name}
        if isinstance(value, dict):
            return {
                str(key): split(item, f"{name}.{key}" if name else str(key)) for key, item in value.items()
            }
        return value

    contents["digest"] = content_digest(contents)
    return safetensors.torch.save(tensors, metadata={"snowmelt": json.dumps(split(contents, ""))})


def _filled(value: float) -> Callable[[Tensor], Tensor]:
    def fill(tensor: Tensor) -> Tensor:
        other = tensor.clone()
        if other.numel() and (other.is_floating_point() or abs(value) < 2):
            other.view(-1)[0] = value
        return other

    return fill


TENSORS: dict[str, Callable[[Tensor], Tensor]] = {
    "sparse": lambda t: t.to_sparse(),
    "sparse rows": lambda t: t.to_sparse_csr() if t.ndim == 2 else t.to_sparse(),
    "quantised": lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    "complex": lambda t: t.to(torch.complex64),
    "half": lambda t: t.half(),
    "bfloat16": lambda t: t.bfloat16(),
    "double": lambda t: t.double(),
    "integer": lambda t: t.to(torch.int32),
    "bool": lambda t: t.bool(),
    "nan": _filled(float("nan")),
    "infinite": _filled(float("inf")),
    "meta": lambda t: t.to("meta"),
    "a thousand million": lambda t: torch.zeros(1).expand(10**9),
    "a million million": lambda t: torch.zeros(1).expand(10**6, 10**6),
    "empty": lambda t: t[:0] if t.ndim else t,
    "flat": lambda t: t.reshape(-1),
    "turned": lambda t: t.T.contiguous().T if t.ndim == 2 else t,
    "negative": lambda t: torch._neg_view(t.float()),
}
NO_WEIGHTS = ("sparse", "sparse rows", "quantised", "complex", "integer", "bool", "nan", "infinite", "meta")
