"""A diffusion model: a network, and what has to be known of it in order to train it and to sample from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snowmelt.core import PARAMETERIZATIONS, Level, NoiseSchedule, Parameterization, Time, find_time
from snowmelt.denoisers import Answer, Answering

if TYPE_CHECKING:
    from snowmelt.models.spec import ModelSpec

__all__ = ["DiffusionModel", "Network", "shaped_as"]

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class DiffusionModel(nn.Module, Answering):
    """A network with its schedule and parameterization: a `Denoiser` that has weights.

    At x_t = alpha x0 + sigma eps the network is called as ``network(c_in * x_t, time, class_labels)``, with
    `time` a tensor (B,) in float32 or better. It runs in its own dtype; the state keeps its own.

    Args:
        network: (x, time, class_labels) -> y, shaped like x; if it is a module, its weights are moved and
            held in eval mode with the model. `class_labels` is (B,) int64, and None for a model without
            classes.
        schedule: what it is trained on.
        parameterization: what y is: a key of `snowmelt.core.PARAMETERIZATIONS`, or a pair of your own.
        image_shape: (C, H, W) of what is denoised: of the latents, where there is a decoder.
        time: what the network is told: a key of `snowmelt.core.TIMES`, or a function of schedule and level;
            None is the schedule's own convention (the trained index, 1000 t, or log(sigma)/4).
        num_classes: number of classes; None or 0 for an unconditional model.
        null_class: the label that stands for no condition; None where the network knows none. Without one, a
            model with classes always needs labels, and its labels cannot guide.
        class_dropout_prob: how often training replaces a label by the null class, in [0, 1).
        learned_variance: y has as many channels again as x, which say how much noise a step of ancestral
            sampling adds (Nichol & Dhariwal 2021, eq. 15). Training learns them.
        decoder: latents (B, C, H, W) -> images (B, C', H', W') in [-1, 1]; None where images themselves are
            denoised.
        spec: how snowmelt builds this model; kept in checkpoints. None for other people's networks.

    Attributes:
        time: level -> what the network is told.

    Raises:
        ValueError: a name is unknown, or the arguments contradict each other.

    A velocity network that is told the time in [0, 1], in a sampler:

    >>> from snowmelt import DiffusionSampler
    >>> from snowmelt.core import RectifiedFlow
    >>> velocity = lambda x, time, class_labels: x / (1 + time.view(-1, 1, 1, 1))
    >>> model = DiffusionModel(velocity, RectifiedFlow(), "flow", image_shape=(1, 2, 2), time="t")
    >>> DiffusionSampler(model, solver="euler", steps=4).sample(3).shape
    torch.Size([3, 1, 2, 2])
    """

    def __init__(
        self,
        network: Network,
        schedule: NoiseSchedule,
        parameterization: str | Parameterization,
        *,
        image_shape: tuple[int, int, int],
        time: str | Time | None = None,
        num_classes: int | None = None,
        null_class: int | None = None,
        class_dropout_prob: float = 0.0,
        learned_variance: bool = False,
        decoder: Callable[[Tensor], Tensor] | None = None,
        spec: ModelSpec | None = None,
    ) -> None:
        super().__init__()
        if null_class is not None and not num_classes:
            raise ValueError(f"null_class {null_class} needs num_classes: how many others are there?")
        if not 0.0 <= class_dropout_prob < 1.0:
            raise ValueError(f"class_dropout_prob must lie in [0, 1), got {class_dropout_prob}")
        if class_dropout_prob and num_classes and null_class is None:
            raise ValueError(
                f"class_dropout_prob is {class_dropout_prob}, but there is no null class to replace a label: "
                "take 0.0, or a model with a null class"
            )
        self.network = network
        self.schedule = schedule
        self.parameterization = _parameterization(parameterization)
        self.image_shape = image_shape
        self.time_convention = schedule.time if time is None else time
        self.time = partial(find_time(self.time_convention), schedule)
        self.num_classes = num_classes or None
        self.null_class = null_class
        self.class_dropout_prob = class_dropout_prob
        self.learned_variance = learned_variance
        self.decoder = decoder
        self.spec = spec

    @property
    def config(self) -> dict[str, Any]:
        """The spec as one flat dictionary, as checkpoints hold it; empty for other people's networks."""
        return self.spec.to_config() if self.spec is not None else {}

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU, if there are none."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def bounded(self) -> bool:
        """Whether what is denoised lies in [-1, 1]: images do, latents do not."""
        return self.decoder is None

    def forward(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Tensor:
        """Return E[x0 | x_t], shaped and typed like `x_t`; without labels, for the null class."""
        return self.answer(x_t, level, class_labels).x0

    def answer(self, x_t: Tensor, level: Level[float], class_labels: Tensor | None = None, /) -> Answer:
        """Return E[x0 | x_t], and what the network says of the variance, both typed like `x_t`."""
        dtype = torch.promote_types(x_t.dtype, torch.float32)
        time = x_t.new_full((len(x_t),), self.time(level), dtype=dtype)
        labels = self.labels_or_null(class_labels, len(x_t), x_t.device)
        x = self.parameterization.input_scale(level) * x_t
        y, variance = self.split(self.network(x, time, labels))
        x0 = self.parameterization.x0(x_t, shaped_as(x_t, y).to(x_t.dtype), level)
        return Answer(x0, variance.to(x_t.dtype) if variance is not None else None)

    def predict(self, x: Tensor, time: Tensor, class_labels: Tensor | None) -> Tensor:
        """Return the network's answer without what it says of the variance."""
        return self.split(self.network(x, time, class_labels))[0]

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the network's prediction, and what it says of the variance; None if it says nothing."""
        if not self.learned_variance:
            return output, None
        y, variance = output.chunk(2, dim=1)
        return y, variance

    def labels_or_null(self, class_labels: Tensor | None, count: int, device: torch.device) -> Tensor | None:
        """Return the labels; without any, the null class's for a model with classes.

        Raises:
            ValueError: the model has classes and no null class.
        """
        if class_labels is not None or self.num_classes is None:
            return class_labels
        if self.null_class is None:
            raise ValueError("class_labels are needed: this model has classes, and no null class")
        return torch.full((count,), self.null_class, device=device)

    def decode(self, x0: Tensor) -> Tensor:
        """Return finished states as images; what is denoised is one already, unless there is a decoder."""
        return x0 if self.decoder is None else self.decoder(x0)

    def with_decoder(self, decoder: Callable[[Tensor], Tensor]) -> DiffusionModel:
        """Return this model of latents with the function that makes images of them; the network is shared.

        A sampler runs the model on latents from beginning to end, and decodes once, when they are finished.

        >>> from snowmelt import DiffusionSampler
        >>> from snowmelt.adapters import from_flow
        >>> latents = from_flow(lambda x, time, class_labels: 0 * x, (4, 2, 2))
        >>> model = latents.with_decoder(nn.PixelShuffle(2))  # four channels of 2 x 2 become one of 4 x 4
        >>> DiffusionSampler(model).sample(3).shape
        torch.Size([3, 1, 4, 4])
        """
        return DiffusionModel(
            self.network,
            self.schedule,
            self.parameterization,
            image_shape=self.image_shape,
            time=self.time_convention,
            num_classes=self.num_classes,
            null_class=self.null_class,
            class_dropout_prob=self.class_dropout_prob,
            learned_variance=self.learned_variance,
            decoder=decoder,
        )


def shaped_as(x: Tensor, y: Tensor) -> Tensor:
    """Return a network's answer `y` to `x`; another shape than that of `x` is a ValueError."""
    if y.shape != x.shape:
        raise ValueError(
            f"the network turns {tuple(x.shape)} into {tuple(y.shape)}: wrap it in a function that returns "
            "only what it says of the image"
        )
    return y


def _parameterization(given: str | Parameterization) -> Parameterization:
    if not isinstance(given, str):
        return given
    if given not in PARAMETERIZATIONS:
        known = ", ".join(PARAMETERIZATIONS)
        raise ValueError(f"parameterization must be one of {known}, got {given!r}")
    return PARAMETERIZATIONS[given]
