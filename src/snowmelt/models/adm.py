"""Files of guided-diffusion (Dhariwal & Nichol 2021, "ADM"), and of improved-diffusion, as checkpoints.

Such a file is a bare state dict of a U-Net that is ours in another order: one list of blocks on the way down,
one on the way up, and in a block its layers by number. Its attention has the queries, keys and values of a
pixel in one matrix. So names and rows are rearranged, and nothing is computed.

Most options of the network show in the shapes of its weights. What does not is a flag of the scripts of
guided-diffusion (`snowmelt.models.adm_flags`): whoever knows how a file was trained states it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from itertools import count
from math import gcd
from pathlib import Path
from typing import Any

from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.models.adm_flags import DEFAULTS, published, usual_flags
from snowmelt.models.checkpoint import Checkpoint
from snowmelt.models.spec import ModelSpec
from snowmelt.models.weights import not_finite
from snowmelt.text import listed

__all__ = ["adm_checkpoint", "is_adm", "layout"]

_GROUPS = 32  # of every norm, in all of their networks
_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_PARTS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "proj_out": "to_out.0",
    "op": "conv",
    "conv": "conv",
}

_SIGNS = {"residual": "in_layers.2.weight", "attention": "qkv.weight", "conv": "conv.weight"}

Weights = Mapping[str, Tensor]


def is_adm(weights: Weights) -> bool:
    """Whether a state dict has the names of guided-diffusion's UNetModel.

    >>> is_adm({"conv_in.weight": Tensor()})
    False
    """
    return {f"{name}.weight" for name in _ENDS if name != "label_emb"} <= weights.keys()


def adm_checkpoint(weights: Weights, source: Path | None = None, **flags: Any) -> Checkpoint:
    """Return the checkpoint of a state dict of guided-diffusion.

    Warns what is taken for those flags that nobody states.

    Args:
        weights: as guided-diffusion names them, in any precision.
        source: the file that they come from.
        flags: some of `snowmelt.models.adm_flags.DEFAULTS`, as its scripts take them; ``image_size`` is a
            side or (H, W).

    Returns:
        A checkpoint in float32. Without ``has_null_class``, a model of classes always needs labels.

    Raises:
        InputError: a flag is unknown, or the network is none that we build; the message says why.
    """
    if unknown := [flag for flag in flags if flag not in DEFAULTS]:
        raise InputError(f"{unknown[0]} is no flag of guided-diffusion; expected {listed(list(DEFAULTS))}")
    name = source or "the state dict"
    if not is_adm(weights):
        raise InputError(f"{name} is no state dict of guided-diffusion: it has no time_embed.0, out.2, ...")
    if spoilt := next(not_finite(weights), None):
        raise InputError(f"{name}: the weights {spoilt} are not finite (NaN or infinity)")
    try:
        places, options = layout(weights)
        all_flags = usual_flags(options, flags)
        spec = ModelSpec.from_config(_with_flags(options, all_flags))
        arranged = dict(_arranged(weights, places, all_flags))
    except KeyError as error:
        raise InputError(
            f"{name} has names of guided-diffusion, but no {error.args[0]}: it is another kind of network, "
            "or a part of it is missing"
        ) from error
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except (IndexError, RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{name} has weights of other shapes than guided-diffusion's: {error}") from error
    taken = {flag: all_flags[flag] for flag in all_flags.keys() - flags if all_flags[flag] is not None}
    if taken:
        warnings.warn(_what_was_taken(name, options, taken), stacklevel=3)
    return Checkpoint(arranged, spec, num_classes=spec.num_classes, source=source)


def _what_was_taken(name: object, options: Mapping[str, Any], taken: Mapping[str, Any]) -> str:
    known = published(options)
    whose = (
        f"Its shapes are those of {known.name}, whose flags were taken"
        if known is not None
        else "Its shapes are those of no published network. So the defaults of the scripts were taken, "
        "which may be wrong"
    )
    values = listed([f"{flag}={taken[flag]}" for flag in DEFAULTS if flag in taken])
    return (
        f"{name} does not say all of how it was trained. {whose}: {values}. State what differs: "
        "snowmelt import FILE --flag NAME=VALUE, training.init.flags, or adapters.from_adm"
    )


def layout(weights: Weights) -> tuple[dict[str, str], dict[str, Any]]:
    """Return our name of each of their layers, and the options of the network that its weights show."""
    stages = _stages(weights)
    layers, last = len(stages[0]) - 1, len(stages) - 1
    attended = ["attention" in stage[0] for stage in reversed(stages)]
    places = {**_ENDS, "middle_block.0": "mid_block.resnets.0", "middle_block.2": "mid_block.resnets.1"}
    places["middle_block.1"] = "mid_block.attentions.0"
    number = 1
    for i in range(last + 1):
        for j in range(layers):
            places[f"input_blocks.{number}.0"] = f"down_blocks.{i}.resnets.{j}"
            places[f"input_blocks.{number}.1"] = f"down_blocks.{i}.attentions.{j}"
            number += 1
        places[f"input_blocks.{number}.0"] = f"down_blocks.{i}.downsamplers.0"
        number += 1
    blocks = ((i, j, kinds) for i, stage in enumerate(stages) for j, kinds in enumerate(stage))
    widths = []
    for number, (i, j, kinds) in enumerate(blocks):
        block = f"output_blocks.{number}"
        ours = ["resnets", "attentions"] if "attention" in kinds else ["resnets"]
        places |= {f"{block}.{k}": f"up_blocks.{i}.{part}.{j}" for k, part in enumerate(ours)}
        places[f"{block}.{len(ours)}"] = f"up_blocks.{i}.upsamplers.0"
        if j == 0:
            widths.append(len(weights[f"{block}.0.out_layers.3.weight"]))
    resampling = {"residual": "resnet", "conv": "conv"}[stages[0][-1][-1] if last else "conv"]
    return places, {
        **_ends(weights, widths[::-1]),
        "layers_per_block": layers,
        "use_attention": attended,
        "downsample": resampling,
        "upsample": resampling,
        "norm_groups": _GROUPS,
        "mid_attention_norm_groups": _GROUPS,
    }


def _stages(weights: Weights) -> list[list[list[str]]]:
    """Return the kinds of layers in each block of each stage on the way up, from the lowest one on.

    On the way down, a residual block that halves the size looks like any other. On the way up, what doubles
    it stands behind another block, and ends the stage.
    """
    stages: list[list[list[str]]] = [[]]
    for number in count():
        kinds = list(_kinds(weights, f"output_blocks.{number}"))
        if not kinds:
            if not stages[-1]:
                raise KeyError(f"output_blocks.{number}.0")
            return stages
        stages[-1].append(kinds)
        if len(kinds) > 1 and kinds[-1] != "attention":
            stages.append([])
    raise AssertionError


def _kinds(weights: Weights, block: str) -> Iterator[str]:
    for number in count():
        layer = f"{block}.{number}"
        kind = next((kind for kind, sign in _SIGNS.items() if f"{layer}.{sign}" in weights), None)
        if kind is None:
            return
        yield kind


def _ends(weights: Weights, widths: list[int]) -> dict[str, Any]:
    """Return the options that the first and last layers, the embeddings and the widths show."""
    in_channels, out_channels = weights["input_blocks.0.0.weight"].shape[1], len(weights["out.2.weight"])
    features = weights["time_embed.0.weight"].shape[1]
    if out_channels not in (in_channels, 2 * in_channels) or in_channels == 6:
        raise InputError(
            f"it makes {out_channels} channels of {in_channels}, as networks for super-resolution do; "
            "expected images from images, with as many channels again for a learned variance"
        )
    if widths[0] != features:
        raise InputError(
            f"its first stage is {widths[0]} wide, and its time has {features} features; our U-Net has as "
            "many of both"
        )
    unit = widths[0] if all(width % widths[0] == 0 for width in widths) else gcd(*widths)
    scaled = len(weights["output_blocks.0.0.emb_layers.1.weight"]) == 2 * widths[-1]
    classes = weights.get("label_emb.weight")
    return {
        "in_channels": in_channels,
        "learned_variance": out_channels != in_channels,
        "model_channels": unit,
        "channel_multipliers": [width // unit for width in widths],
        "resnet_time_scale_shift": "scale_shift" if scaled else "default",
        "num_classes": len(classes) if classes is not None else None,
    }


def _with_flags(options: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the model, with what the flags say."""
    if flags["image_size"] is None:
        raise InputError("nothing in it says how large its images are: state image_size")
    heads, has_null_class, classes = flags["num_heads"], flags["has_null_class"], options["num_classes"]
    return {
        **options,
        "image_size": flags["image_size"],
        "attention_head_dim": None if heads else flags["num_head_channels"],
        "attention_heads": heads,
        "num_classes": classes - has_null_class if classes else None,
        "has_null_class": has_null_class,
        "class_dropout_prob": 0.1 if has_null_class else 0.0,
        "beta_schedule": flags["noise_schedule"],
        "num_timesteps": flags["diffusion_steps"],
        "parameterization": "x0" if flags["predict_xstart"] else "eps",
    }


def _arranged(
    weights: Weights, places: Mapping[str, str], flags: Mapping[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights under our names, in float32."""
    for name, value in weights.items():
        layer = next((layer for layer in places if name.startswith(f"{layer}.")), None)
        if layer is None:
            raise InputError(f"it has {name}, of which the network that its other weights show has none")
        part, _, kind = name.removeprefix(f"{layer}.").rpartition(".")
        ours, value = f"network.{places[layer]}", value.float()
        if part == "qkv":
            yield from _queries_keys_values(f"{ours}.%s.{kind}", value, flags)
        elif not part:
            yield f"{ours}.{kind}", value
        else:
            matrix = part == "proj_out" and kind == "weight"
            yield f"{ours}.{_PARTS[part]}.{kind}", value.squeeze(-1) if matrix else value


def _queries_keys_values(name: str, value: Tensor, flags: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the three matrices of an attention, (C, C), or their biases, (C,), of one with 3 C rows."""
    channels = len(value) // 3
    heads = flags["num_heads"] or channels // flags["num_head_channels"]
    if not heads or channels % heads or (not flags["num_heads"] and channels % flags["num_head_channels"]):
        raise InputError(
            f"an attention of {channels} channels has no heads of {flags['num_head_channels']}: state "
            "num_head_channels or num_heads, as it was trained"
        )
    rows = value.squeeze(-1) if value.ndim == 3 else value
    # The old order is head by head, each with its q, k and v; the new one all q, all k, all v
    old = (part.flatten(0, 1) for part in rows.unflatten(0, (heads, 3, -1)).unbind(1))
    matrices = rows.chunk(3) if flags["use_new_attention_order"] else old
    for ours, matrix in zip(("to_q", "to_k", "to_v"), matrices, strict=True):
        yield name % ours, matrix.contiguous()
