"""Any callable as a model: what it is fed, what it is told and what it says are stated, not guessed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from snowmelt.core import PARAMETERIZATIONS, Level, NoiseSchedule, Parameterization
from snowmelt.core.times import Time, find_time

__all__ = ["FunctionModel", "shaped_as"]


class FunctionModel(nn.Module):
    """A network of anybody's, with what has to be known of it in order to sample.

    At x_t = alpha x0 + sigma eps it is called as ``function(c_in * x_t, time, class_labels)``, with `time` a
    tensor (B,) in float32 or better. All other adapters come down to this one.

    Args:
        function: (x, time, class_labels) -> y, shaped like x; if it is a module, its weights are moved and
            held in eval mode as a model's are. `class_labels` is (B,) int64, and None for a model without
            classes.
        schedule: what it was trained on.
        parameterization: what y is: a key of `snowmelt.core.PARAMETERIZATIONS`, or a pair of your own.
        image_shape: (C, H, W).
        time: what it is told: a key of `snowmelt.core.times.TIMES`, or a function of schedule and level;
            None is the schedule's own convention (the trained index, 1000 t, or log(sigma)/4).
        num_classes: number of classes; None for an unconditional model.
        null_class: the label that stands for no condition; None where it knows none.

    Raises:
        ValueError: a name is unknown, or there is a null class without classes.

    A velocity network that is told the time in [0, 1], in a sampler:

    >>> from snowmelt import DiffusionSampler
    >>> from snowmelt.core import RectifiedFlow
    >>> velocity = lambda x, time, class_labels: x / (1 + time.view(-1, 1, 1, 1))
    >>> model = FunctionModel(velocity, RectifiedFlow(), "flow", image_shape=(1, 2, 2), time="t")
    >>> DiffusionSampler(model, solver="euler", steps=4).sample(3).shape
    torch.Size([3, 1, 2, 2])
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        schedule: NoiseSchedule,
        parameterization: str | Parameterization,
        *,
        image_shape: tuple[int, int, int],
        time: str | Time | None = None,
        num_classes: int | None = None,
        null_class: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(parameterization, str):
            if parameterization not in PARAMETERIZATIONS:
                known = ", ".join(PARAMETERIZATIONS)
                raise ValueError(f"parameterization must be one of {known}, got {parameterization!r}")
            parameterization = PARAMETERIZATIONS[parameterization]
        if null_class is not None and not num_classes:
            raise ValueError(f"null_class {null_class} needs num_classes: how many others are there?")
        self.function = function
        self.schedule = schedule
        self.parameterization = parameterization
        self.image_shape = image_shape
        self.time = find_time(time, schedule)
        self.num_classes = num_classes or None
        self.null_class = null_class

    def forward(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        """Return E[x0 | x_t]; without labels, a model with a null class answers for that."""
        if class_labels is None and self.num_classes is not None:
            if self.null_class is None:
                raise ValueError("this model knows no null class, and says nothing without class_labels")
            class_labels = torch.full((len(x_t),), self.null_class, device=x_t.device)
        dtype = torch.promote_types(x_t.dtype, torch.float32)
        time = x_t.new_full((len(x_t),), self.time(self.schedule, level), dtype=dtype)
        y = self.function(self.parameterization.input_scale(level) * x_t, time, class_labels)
        return self.parameterization.x0(x_t, shaped_as(x_t, y).to(x_t.dtype), level)


def shaped_as(x: Tensor, y: Tensor) -> Tensor:
    """Return a network's answer `y` to `x`; another shape than that of `x` is a ValueError."""
    if y.shape != x.shape:
        raise ValueError(
            f"the network turns {tuple(x.shape)} into {tuple(y.shape)}: wrap it in a function that returns "
            "only what it says of the image"
        )
    return y
