"""What a file of guided-diffusion does not say of its network: the flags that its script was run with.

For a published network, which its shapes show, they are those of the README of guided-diffusion
(https://github.com/openai/guided-diffusion) or improved-diffusion (https://github.com/openai/improved-diffusion).
For any other they are the defaults of the scripts (guided_diffusion/script_util.py), which is a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["DEFAULTS", "PUBLISHED", "Published", "published", "usual_flags"]

DEFAULTS: dict[str, Any] = {
    "image_size": None,  # follows from where the network attends
    "num_head_channels": None,
    "num_heads": 4,  # one of the two is stated
    "use_new_attention_order": False,
    "noise_schedule": "linear",
    "diffusion_steps": 1000,
    "predict_xstart": False,
    "has_null_class": False,  # guided-diffusion knows none; others took the last label for it
}
_ATTENDED = 16  # the side of the largest maps that attend (attention_resolutions)
_HEADS = {"num_heads", "num_head_channels"}


class Published(NamedTuple):
    """A network that was published.

    Attributes:
        name: whose, and of which images.
        layout: options of our network, as the weights show them.
        flags: of its script, as far as they differ from the defaults.
    """

    name: str
    layout: dict[str, Any]
    flags: dict[str, Any]


def _network(
    channels: int, layers: int, multipliers: list[int], attended: list[int], resampling: str, shift: str
) -> dict[str, Any]:
    return {
        "model_channels": channels,
        "layers_per_block": layers,
        "channel_multipliers": multipliers,
        "use_attention": [stage in attended for stage in range(len(multipliers))],
        "downsample": resampling,
        "resnet_time_scale_shift": shift,
        "in_channels": 3,
        "learned_variance": True,
    }


PUBLISHED = (
    Published(
        "guided-diffusion's 64 x 64 network",
        _network(192, 3, [1, 2, 3, 4], [1, 2, 3], "resnet", "scale_shift"),
        {
            "image_size": 64,
            "num_head_channels": 64,
            "use_new_attention_order": True,
            "noise_schedule": "cosine",
        },
    ),
    Published(
        "guided-diffusion's 128 x 128 network",
        _network(256, 2, [1, 1, 2, 3, 4], [2, 3, 4], "resnet", "scale_shift"),
        {"image_size": 128, "num_heads": 4},
    ),
    Published(
        "guided-diffusion's 256 x 256 networks",
        _network(256, 2, [1, 1, 2, 2, 4, 4], [3, 4, 5], "resnet", "scale_shift"),
        {"image_size": 256, "num_head_channels": 64},
    ),
    Published(
        "improved-diffusion's 64 x 64 network of classes",
        _network(192, 3, [1, 2, 3, 4], [2, 3], "conv", "scale_shift"),
        {"image_size": 64, "num_heads": 4, "noise_schedule": "cosine", "diffusion_steps": 4000},
    ),
    Published(
        "improved-diffusion's 256 x 256 network",
        _network(128, 2, [1, 1, 2, 2, 4, 4], [4], "conv", "default"),
        {"image_size": 256, "num_heads": 1},
    ),
)


def published(options: Mapping[str, Any]) -> Published | None:
    """Return the published network with these options, if there is one.

    >>> published({"model_channels": 32})
    >>> published(PUBLISHED[1].layout).flags
    {'image_size': 128, 'num_heads': 4}
    """
    return next((one for one in PUBLISHED if one.layout.items() <= options.items()), None)


def usual_flags(options: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return all flags: those that are stated, and for the others the usual values.

    Args:
        options: of our network, as the weights show them.
        stated: some of the flags; a number of heads replaces a number of channels a head, and the reverse.

    >>> flags = usual_flags({"use_attention": [False, True]}, {"num_head_channels": 32})
    >>> flags["image_size"], flags["num_heads"], flags["num_head_channels"]
    (32, None, 32)
    """
    known = published(options)
    usual = {**DEFAULTS, "image_size": _usual_size(options["use_attention"])}
    for flags in (known.flags if known is not None else {}, stated):
        if flags.keys() & _HEADS:
            usual |= dict.fromkeys(_HEADS)
        usual |= flags
    return usual


def _usual_size(attended: list[bool]) -> int | None:
    """Return the side of the images for which the largest maps that attend are those of the scripts."""
    return _ATTENDED * 2 ** attended.index(True) if any(attended) else None
