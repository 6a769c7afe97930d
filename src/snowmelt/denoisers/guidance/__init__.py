"""Guidance: a denoiser in, a denoiser out.

A guidance is a method with its options (`CFG`, `APG`, `AutoGuidance`, `CFGPlusPlus`, `ClassifierGuidance`).
The scale comes with each call of a sampler, and the denoiser that both make is a plain one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from snowmelt.denoisers.guidance.apg import APG, projected
from snowmelt.denoisers.guidance.autoguidance import AutoGuidance, GuidedByWeaker
from snowmelt.denoisers.guidance.cfg import CFG, ClassifierFreeGuidance
from snowmelt.denoisers.guidance.cfg_plus_plus import CFGPlusPlus, image_gains
from snowmelt.denoisers.guidance.classifier import (
    ClassifierGuidance,
    GuidedByClassifier,
    LogProbabilityGradient,
)
from snowmelt.denoisers.guidance.contrast import line, rescaled
from snowmelt.denoisers.guidance.guidance import Guidance, network_evaluations
from snowmelt.denoisers.guidance.schedules import SCHEDULES

__all__ = [
    "APG",
    "CFG",
    "GUIDANCE",
    "SCHEDULES",
    "AutoGuidance",
    "CFGPlusPlus",
    "ClassifierFreeGuidance",
    "ClassifierGuidance",
    "Guidance",
    "GuidedByClassifier",
    "GuidedByWeaker",
    "LogProbabilityGradient",
    "image_gains",
    "line",
    "make_guidance",
    "network_evaluations",
    "projected",
    "rescaled",
]

GUIDANCE: dict[str, Callable[..., Guidance]] = {
    "cfg": CFG,
    "cfg++": CFGPlusPlus,
    "apg": APG,
    "autoguidance": AutoGuidance,
    "classifier": ClassifierGuidance,
}

# Why a combination that one may think of does not exist
_STEP = "its scale belongs to the step, not to the image that these options shape"
_ALONE = "there is one prediction, and no second one that these options could be about"
_NO_MEANING = {
    **{("cfg++", option): _STEP for option in ("rescale", "eta", "norm_threshold")},
    **{("classifier", option): _ALONE for option in ("rescale", "eta", "norm_threshold")},
    **{("cfg", option): "cfg with this option is apg" for option in ("eta", "norm_threshold")},
}


def make_guidance(guidance: str | Mapping[str, Any] | Guidance | None = None) -> Guidance:
    """Return a guidance from what a user or a configuration says.

    Args:
        guidance: a key of `GUIDANCE`; a mapping with that key as ``type`` (``cfg`` by default) and the
            method's options; a guidance as it is; None for `CFG`.

    Raises:
        ValueError: the method or an option is unknown, has no meaning here, or is missing.
        TypeError: it is something else altogether.

    >>> make_guidance({"type": "apg", "eta": 0.2, "interval": [0.3, 3.0]})
    APG(interval=(0.3, 3.0), interval_in='sigma', schedule='constant', rescale=0.0, eta=0.2,
    norm_threshold=None)
    """
    if isinstance(guidance, Guidance):
        return guidance
    if guidance is not None and not isinstance(guidance, str | Mapping):
        raise TypeError(
            f"guidance must be a name, a mapping with a type, or a Guidance, got {type(guidance).__name__}"
        )
    options = {"type": guidance or "cfg"} if isinstance(guidance, str | None) else {"type": "cfg", **guidance}
    name = options.pop("type")
    if name not in GUIDANCE:
        raise ValueError(f"guidance must be one of {', '.join(GUIDANCE)}, got {name!r}")
    known = inspect.signature(GUIDANCE[name]).parameters
    for option in options:
        if option not in known:
            reason = _NO_MEANING.get((name, option), f"it has {', '.join(known)}")
            raise ValueError(f"guidance {name!r} has no option {option!r}: {reason}")
    missing = [key for key, item in known.items() if item.default is item.empty and key not in options]
    if missing:
        raise ValueError(f"guidance {name!r} needs {', '.join(missing)}")
    return GUIDANCE[name](**options)
