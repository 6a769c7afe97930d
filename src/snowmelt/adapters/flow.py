"""Flow-matching networks: the velocity of the straight line between image and noise.

Two directions are in use. In the one of Stable Diffusion 3 (Esser et al. 2024) time rises from the image to
the noise, and the velocity is eps - x0; in that of flow matching (Lipman et al. 2023) it rises from the noise
to the image, and the velocity is x0 - eps. The network is told the time as it is, or times 1000.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from snowmelt.core import PARAMETERIZATIONS, Level, Parameterization, RectifiedFlow
from snowmelt.models import DiffusionModel

__all__ = ["TO_IMAGE", "from_flow"]


def _pair_to_image(level: Level[Any]) -> tuple[Any, Any]:
    return 1.0, -1.0


TO_IMAGE = Parameterization("flow to image", _pair_to_image)

_TIMES = {
    ("noise", 1.0): "t",
    ("noise", 1000.0): "1000t",
    ("image", 1.0): "1-t",
    ("image", 1000.0): "1000(1-t)",
}


def from_flow(
    network: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    image_shape: tuple[int, int, int],
    *,
    towards: str = "noise",
    time_scale: float = 1000.0,
    num_classes: int | None = None,
    null_class: int | None = None,
) -> DiffusionModel:
    """Return a velocity network as a model on the schedule `RectifiedFlow`.

    Args:
        network: (x, time, class_labels) -> velocity, shaped like x.
        image_shape: (C, H, W).
        towards: where its time and its velocity point: ``"noise"`` (time 0 is the image) or ``"image"`` (time
            0 is the noise).
        time_scale: the time of the far end: 1 or 1000.
        num_classes: number of classes; None for an unconditional network.
        null_class: the label that stands for no condition; None where it knows none.

    Raises:
        ValueError: the convention is unknown.

    >>> from snowmelt import DiffusionSampler
    >>> velocity = lambda x, time, class_labels: x * time.view(-1, 1, 1, 1)
    >>> model = from_flow(velocity, (1, 2, 2), towards="image", time_scale=1)
    >>> DiffusionSampler(model, solver="euler", steps=4).sample(3).shape
    torch.Size([3, 1, 2, 2])
    """
    if (towards, time_scale) not in _TIMES:
        raise ValueError(
            f"towards must be noise or image, and time_scale 1 or 1000, got {towards!r} and {time_scale:g}; "
            "DiffusionModel takes any other convention"
        )
    return DiffusionModel(
        network,
        RectifiedFlow(),
        PARAMETERIZATIONS["flow"] if towards == "noise" else TO_IMAGE,
        image_shape=image_shape,
        time=_TIMES[towards, time_scale],
        num_classes=num_classes,
        null_class=null_class,
    )
