"""The options of our U-Net and of diffusers' UNet2DModel: one architecture in two languages.

Weights need no translation, for both sides name and shape them alike. What differs are the names of the
options, and how three of them are said:

    model_channels * channel_multipliers    block_out_channels
    use_attention, downsample, upsample     {down,up}_block_types, {down,up}sample_type
    num_classes, has_null_class             num_class_embeds
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import gcd
from typing import Any

from snowmelt.errors import InputError
from snowmelt.models.diffusers.options import complete, expect, refusal

__all__ = ["unet_config", "unet_options"]

# Ours and theirs, with one value for both
_SAME = {
    "in_channels": "in_channels",
    "layers_per_block": "layers_per_block",
    "mid_attention": "add_attention",
    "mid_attention_norm_groups": "attn_norm_num_groups",
    "attention_head_dim": "attention_head_dim",
    "norm_groups": "norm_num_groups",
    "norm_eps": "norm_eps",
    "dropout": "dropout",
    "time_embedding": "time_embedding_type",
    "flip_sin_to_cos": "flip_sin_to_cos",
    "freq_shift": "freq_shift",
    "resnet_time_scale_shift": "resnet_time_scale_shift",
    "downsample_padding": "downsample_padding",
    "mid_block_scale_factor": "mid_block_scale_factor",
}

# What UNet2DModel (diffusers 0.42) takes where config.json leaves an option out
_DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,  # read with learned time embeddings only, which are refused
}

_ACCEPTED: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "downsample_padding": (1, 0),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None,),
}

# What diffusers' EMAModel writes among a network's options: the state of an average, not of the network
_AVERAGE = {
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
}

# Whether a block attends, and how it resamples; None: as downsample_type or upsample_type says
_DOWN: dict[str, tuple[bool, str | None]] = {
    "DownBlock2D": (False, "conv"),
    "ResnetDownsampleBlock2D": (False, "resnet"),
    "AttnDownBlock2D": (True, None),
}
_UP: dict[str, tuple[bool, str | None]] = {
    "UpBlock2D": (False, "conv"),
    "ResnetUpsampleBlock2D": (False, "resnet"),
    "AttnUpBlock2D": (True, None),
}


def unet_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `create_ddpm` that build the network of a UNet2DModel.

    Args:
        config: the contents of its config.json. ``_null_class`` in it, which `unet_config` writes and
            diffusers keeps, says that the last class is the null class; without it there is none.

    Raises:
        InputError: an option cannot be expressed; the message names it.

    >>> options = unet_options({"sample_size": 32, "block_out_channels": [64, 128, 128, 128]})
    >>> options["model_channels"], options["channel_multipliers"], options["use_attention"]
    (64, [1, 2, 2, 2], [False, True, True, True])
    """
    if (name := config.get("_class_name", "UNet2DModel")) != "UNet2DModel":
        raise refusal("_class_name", name, "'UNet2DModel'; snowmelt.adapters takes others as they are")
    theirs = complete({name: config[name] for name in config if name not in _AVERAGE}, _DEFAULTS)
    if theirs["time_embedding_type"] == "fourier":
        raise refusal("time_embedding_type", "fourier", "'positional': log t has no value at trained index 0")
    expect(theirs, _ACCEPTED)
    widths = theirs["block_out_channels"]
    images = theirs["in_channels"]
    expect(theirs, {"time_embedding_dim": (None, 4 * widths[0]), "out_channels": (images, 2 * images)})
    if not _is_size(size := theirs["sample_size"]):
        raise refusal("sample_size", size, "the side of the images, or [height, width]: write it there")
    if theirs["norm_num_groups"] is None:
        raise refusal("norm_num_groups", None, "a number")

    attended, downsample = _read_blocks("down", theirs, _DOWN)
    ascending, upsample = _read_blocks("up", theirs, _UP)
    if ascending != attended[::-1]:
        raise refusal(
            "up_block_types", theirs["up_block_types"], "attention at the sizes of down_block_types"
        )
    unit = widths[0] if all(width % widths[0] == 0 for width in widths) else gcd(*widths)
    return {
        "image_size": theirs["sample_size"],
        **{ours: theirs[name] for ours, name in _SAME.items()},
        "model_channels": unit,
        "channel_multipliers": [width // unit for width in widths],
        "use_attention": attended[0] if len(set(attended)) == 1 else attended,
        "downsample": downsample,
        "upsample": upsample,
        "learned_variance": theirs["out_channels"] != images,
        **_classes(theirs["num_class_embeds"], config.get("_null_class")),
    }


def unet_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config.json of the UNet2DModel that is our network.

    Args:
        options: the `config` of a `snowmelt.networks.UNet`: all of its arguments.

    Raises:
        InputError: the network has patches, or is no U-Net.

    >>> from snowmelt.networks import UNet
    >>> config = unet_config(UNet(32, 3, use_attention=[False, True, True], num_classes=10).config)
    >>> config["down_block_types"], config["num_class_embeds"], config["_null_class"]
    (['DownBlock2D', 'AttnDownBlock2D', 'AttnDownBlock2D'], 11, 10)
    """
    if "channel_multipliers" not in options:
        raise InputError("only a U-Net can be written as a UNet2DModel; expected network 'unet'")
    if options["patch_size"] != 1:
        raise refusal("patch_size", options["patch_size"], "1: a UNet2DModel works on pixels")
    if options["attention_heads"] is not None:
        raise refusal("attention_heads", options["attention_heads"], "attention_head_dim")
    widths = [options["model_channels"] * multiplier for multiplier in options["channel_multipliers"]]
    attention = options["use_attention"]
    attended = [attention] * len(widths) if isinstance(attention, bool) else attention
    config = {
        **_DEFAULTS,
        "sample_size": _size(options["image_size"]),
        **{name: options[ours] for ours, name in _SAME.items()},
        "out_channels": options["out_channels"] or options["in_channels"],
        "block_out_channels": widths,
        "down_block_types": [_block(_DOWN, yes, options["downsample"]) for yes in attended],
        "up_block_types": [_block(_UP, yes, options["upsample"]) for yes in reversed(attended)],
        "downsample_type": options["downsample"],
        "upsample_type": options["upsample"],
    }
    if options["num_classes"]:
        config["num_class_embeds"] = options["num_classes"] + options["has_null_class"]
        if options["has_null_class"]:
            config["_null_class"] = options["num_classes"]
    return {"_class_name": "UNet2DModel", **config}


def _is_size(size: Any) -> bool:
    sides = [size, size] if isinstance(size, int) else size
    return isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(s, int) for s in sides)


def _size(size: int | Sequence[int] | None) -> int | list[int] | None:
    """Return one side where both are equal, as diffusers writes it."""
    if size is None or isinstance(size, int):
        return size
    height, width = size
    return height if height == width else [height, width]


def _read_blocks(
    way: str, theirs: Mapping[str, Any], table: Mapping[str, tuple[bool, str | None]]
) -> tuple[list[bool], str]:
    """Return which blocks attend, in the order of the list, and how all of them resample."""
    option, names = f"{way}_block_types", theirs[f"{way}_block_types"]
    if unknown := [name for name in names if name not in table]:
        raise refusal(option, unknown[0], " or ".join(table))
    if len(names) != len(theirs["block_out_channels"]):
        raise refusal(option, names, "one for each of block_out_channels")
    resampling = theirs[f"{way}sample_type"]
    blocks = [(attends, kind or resampling) for attends, kind in (table[name] for name in names)]
    # The last block on each way does not resample
    kinds = [kind for _, kind in blocks[:-1] or blocks]
    if any(one != other for one, other in pairwise(kinds)):
        raise refusal(option, names, f"blocks that all resample alike, with {way}sample_type {resampling!r}")
    return [attends for attends, _ in blocks], kinds[0]


def _block(table: Mapping[str, tuple[bool, str | None]], attends: bool, resampling: str) -> str:
    return next(name for name, block in table.items() if block in ((attends, resampling), (attends, None)))


def _classes(num_embeddings: int | None, null_class: int | None) -> dict[str, Any]:
    """Return the options of a number of class embeddings; the last may belong to the null class."""
    if num_embeddings is None:
        return {"num_classes": None}
    if null_class is None:  # without a null class, no label can be dropped
        return {"num_classes": num_embeddings, "has_null_class": False, "class_dropout_prob": 0.0}
    if null_class != num_embeddings - 1:
        raise refusal("_null_class", null_class, f"{num_embeddings - 1}, the last of num_class_embeds")
    return {"num_classes": null_class}
