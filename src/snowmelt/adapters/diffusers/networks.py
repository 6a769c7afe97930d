"""Networks of diffusers, without conversion: `UNet2DModel`, `UNet2DConditionModel`, DiT, autoencoders.

Nothing here imports diffusers: if you have such a network, you have imported it. The schedule and the
parameterization stand in the pipeline's scheduler, not in the network, so you must state them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from snowmelt.core import NoiseSchedule, Parameterization
from snowmelt.core.times import Time, check_positive, find_time
from snowmelt.models import DiffusionModel

__all__ = ["decoder", "from_dit", "from_unet2d", "from_unet2d_condition"]


class _Network(nn.Module):
    """Calls a network of diffusers in its own dtype; what it says of the variance is cut off."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, x: Tensor, time: Tensor, class_labels: Tensor | None, **inputs: Any) -> Tensor:
        sample = x.to(self.network.dtype)
        y: Tensor = self.network(sample, time, class_labels=class_labels, return_dict=False, **inputs)[0]
        return y[:, : x.shape[1]]


class _Conditioned(nn.Module):
    """Turns a label into the row that it stands for, in each of a network's further inputs."""

    def __init__(self, network: nn.Module, inputs: dict[str, Any]) -> None:
        super().__init__()
        self.network = _Network(network)
        self.inputs = inputs

    def forward(self, x: Tensor, time: Tensor, class_labels: Tensor) -> Tensor:
        rows: dict[str, Any] = _rows(self.inputs, class_labels)
        y: Tensor = self.network(x, time, rows.pop("class_labels", None), **rows)
        return y


def _rows(inputs: Any, labels: Tensor) -> Any:
    """Return nested `inputs` with the tensors' rows of `labels`; a tensor of one row has it for all."""
    if isinstance(inputs, dict):
        return {name: _rows(value, labels) for name, value in inputs.items()}
    if not isinstance(inputs, Tensor):
        return inputs
    inputs = inputs.to(labels.device)
    return inputs.expand(len(labels), *inputs.shape[1:]) if len(inputs) == 1 else inputs[labels]


def _image_shape(network: Any, image_size: int | tuple[int, int] | None) -> tuple[int, int, int]:
    """Return (C, H, W): the stated size, or the one of the network's configuration."""
    size = network.config.sample_size if image_size is None else image_size
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    if len(sides) != 2:
        raise ValueError(
            f"the network's sample_size is {size}, which says nothing of the images: give image_size, a side "
            "or (H, W)"
        )
    return (network.config.in_channels, *sides)


def from_unet2d(
    network: nn.Module,
    schedule: NoiseSchedule,
    parameterization: str | Parameterization = "eps",
    *,
    time: str | Time | None = None,
    null_class: int | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> DiffusionModel:
    """Return a `UNet2DModel` as a model.

    Args:
        network: its configuration says sample_size and num_class_embeds.
        schedule: what it was trained on; `DiscreteSchedule` for a DDPM.
        parameterization: the scheduler's prediction_type: ``eps``, ``x0`` (diffusers' sample) or ``v``.
        time: what it is told; None is the schedule's own convention, the trained index for a DDPM.
        null_class: the last label, if it was trained to stand for no condition.
        image_size: side or (H, W) of the images, where the configuration says none, or another.

    Raises:
        ValueError: the size is unknown, the classes are no table of labels, `null_class` is not its last, or
            the network reads log t and is told the time 0.

    >>> from diffusers import UNet2DModel
    >>> from snowmelt import DiffusionSampler
    >>> from snowmelt.core import DiscreteSchedule, make_betas
    >>> blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    >>> size = {"sample_size": 8, "block_out_channels": (8,), "norm_num_groups": 4, "layers_per_block": 1}
    >>> network = UNet2DModel(in_channels=1, out_channels=1, **blocks, **size)
    >>> model = from_unet2d(network, DiscreteSchedule(make_betas("linear")))
    >>> DiffusionSampler(model, preset="draft").sample(2).shape
    torch.Size([2, 1, 8, 8])
    """
    config: Any = network.config
    if config.class_embed_type is not None:
        raise ValueError(
            f"the network's classes are of type {config.class_embed_type!r}, not a table of labels: wrap it "
            "in a function (x, time, class_labels) of your own, and give that to DiffusionModel"
        )
    if null_class is not None and null_class + 1 != config.num_class_embeds:
        raise ValueError(
            f"null_class must be the last of the network's {config.num_class_embeds} class embeddings, got "
            f"{null_class}"
        )
    if config.time_embedding_type == "fourier":
        check_positive(find_time(schedule.time if time is None else time), schedule)
    return DiffusionModel(
        _Network(network),
        schedule,
        parameterization,
        image_shape=_image_shape(network, image_size),
        time=time,
        num_classes=config.num_class_embeds if null_class is None else null_class,
        null_class=null_class,
    )


def from_unet2d_condition(
    network: nn.Module,
    schedule: NoiseSchedule,
    parameterization: str | Parameterization = "eps",
    *,
    time: str | Time | None = None,
    last_is_null: bool = False,
    image_size: int | tuple[int, int] | None = None,
    **inputs: Any,
) -> DiffusionModel:
    """Return a `UNet2DConditionModel` as a model, its conditions under class labels.

    Row k of each further input is what label k stands for: with the embeddings of K prompts as
    ``encoder_hidden_states`` there are K classes, and ``sample_by_class`` makes images of each prompt. If it
    denoises latents, give it a decoder with `DiffusionModel.with_decoder`.

    Args:
        network: its configuration says sample_size.
        schedule, parameterization, time: as for `from_unet2d`.
        last_is_null: whether the last row is the embedding of no condition, for guidance.
        image_size: as for `from_unet2d`.
        inputs: keyword arguments of the network, such as ``encoder_hidden_states`` (K, length, width),
            ``encoder_attention_mask`` or ``added_cond_kwargs``: tensors of its dtype, in a dictionary
            or not, with a row for each label or one row for all; anything else is handed on as it is.

    Raises:
        ValueError: the tensors have different numbers of rows, or the network has class embeddings and there
            are no such ``class_labels``.
    """
    config: Any = network.config
    classes, labels = config.num_class_embeds, inputs.get("class_labels")
    if not isinstance(labels, Tensor) and (classes is not None or config.class_embed_type is not None):
        raise ValueError(
            "the network has class embeddings: give class_labels, a tensor with a row for each label"
        )
    if (
        isinstance(labels, Tensor)
        and classes is not None
        and not 0 <= int(labels.min()) <= int(labels.max()) < classes
    ):
        raise ValueError(
            f"class_labels must lie in 0..{classes - 1}, the network's table, got {labels.tolist()}"
        )
    counts = {len(tensor) for tensor in _tensors(inputs)} - {1} or {1}
    if len(counts) > 1:
        raise ValueError(f"each input needs one row a label, or one for all; got {sorted(counts)} rows")
    rows = counts.pop()
    null_class = rows - 1 if last_is_null else None
    return DiffusionModel(
        _Conditioned(network, inputs),
        schedule,
        parameterization,
        image_shape=_image_shape(network, image_size),
        time=time,
        num_classes=rows if null_class is None else null_class,
        null_class=null_class,
    )


def _tensors(inputs: Any) -> list[Tensor]:
    if isinstance(inputs, dict):
        return [tensor for value in inputs.values() for tensor in _tensors(value)]
    return [inputs] if isinstance(inputs, Tensor) else []


def from_dit(
    network: nn.Module,
    schedule: NoiseSchedule,
    parameterization: str | Parameterization = "eps",
    *,
    time: str | Time | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> DiffusionModel:
    """Return a `DiTTransformer2DModel` (Peebles and Xie 2023) as a model of its latents.

    `DiffusionModel.with_decoder` gives it a decoder.

    Label num_embeds_ada_norm is its null class, and of a network that learned the variance too, only the mean
    is read.

    Args:
        network: its configuration says sample_size, in_channels and num_embeds_ada_norm.
        schedule, parameterization, time, image_size: as for `from_unet2d`.
    """
    config: Any = network.config
    return DiffusionModel(
        _Network(network),
        schedule,
        parameterization,
        image_shape=_image_shape(network, image_size),
        time=time,
        num_classes=config.num_embeds_ada_norm,
        null_class=config.num_embeds_ada_norm,
    )


class _Decoder(nn.Module):
    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder: Any = autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        config = self.autoencoder.config
        z = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        images: Tensor = self.autoencoder.decode(z.to(self.autoencoder.dtype), return_dict=False)[0]
        return images.to(latents.dtype)


def decoder(autoencoder: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what turns the latents of an `AutoencoderKL` into images, for `DiffusionModel.with_decoder`.

    Args:
        autoencoder: its configuration says scaling_factor, and shift_factor if it has one.
    """
    return _Decoder(autoencoder)
