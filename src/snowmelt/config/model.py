"""The sections of the model: the network, its noise schedule and its classes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, FiniteFloat, ValidationInfo, field_validator

from snowmelt import limits
from snowmelt.config.section import Classes, NullIsNone, Probability, Section, Share, Side, Width
from snowmelt.text import counted

__all__ = ["Architecture", "Conditioning", "Diffusion", "Model"]


def _default(**defaults: int) -> Any:
    """Return a field whose default depends on the type of the network."""
    return Field(default_factory=lambda data: defaults[data.get("type", "unet")])


# The keys of one network alone
_OF_UNET = {
    "channel_multipliers",
    "use_attention",
    "layers_per_block",
    "norm_groups",
    "resnet_time_scale_shift",
}
_OF_DIT = {"depth", "qk_norm"}


class Architecture(Section):
    """The network, a U-Net or a transformer (dit), which reads its own keys only.

    `channel_multipliers` has one entry for each stage of a U-Net; so has a list of `use_attention`.
    """

    type: Literal["unet", "dit"] = "unet"
    image_size: Annotated[
        Side | Annotated[list[Side], Field(min_length=2, max_length=2)],
        AfterValidator(lambda size: size if isinstance(size, int) or size[0] != size[1] else size[0]),
        Field(description="the side of square images, or [height, width], in pixels, up to 8,192"),
    ] = 32
    in_channels: Width = 3
    model_channels: Width = _default(unet=64, dit=384)
    patch_size: Width = _default(unet=1, dit=2)
    channel_multipliers: list[Annotated[int, Field(gt=0, le=limits.CHANNELS)]] = Field(
        default=[1, 2, 2],
        min_length=1,
        max_length=limits.STAGES,
        description="a list of positive integers, one for each stage, of at most 16, each up to 65,536",
    )
    use_attention: Annotated[
        bool | Side | list[bool],
        Field(description="true, false, a list of them, one for each stage, or a side in pixels"),
    ] = False
    layers_per_block: Annotated[int, Field(gt=0, le=limits.LAYERS)] = 2
    norm_groups: Width = 32
    attention_head_dim: Annotated[
        Width | None, Field(description="a positive integer up to 65,536, or null for one head")
    ] = _default(unet=8, dit=64)
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    depth: Annotated[int, Field(gt=0, le=limits.LAYERS)] = 12
    qk_norm: bool = False
    dropout: Probability = 0.0

    @field_validator("use_attention")
    @classmethod
    def _one_per_stage(cls, value: bool | int | list[bool], info: ValidationInfo) -> bool | int | list[bool]:
        stages = len(info.data.get("channel_multipliers", ()))
        if stages and isinstance(value, list) and len(value) != stages:
            raise ValueError(
                f"{counted(stages, 'entry')}, one for each of the channel_multipliers, or true or false"
            )
        return value


# The keys that describe a discrete schedule
_OF_BETAS = {"num_timesteps", "beta_schedule", "beta_start", "beta_end", "zero_terminal_snr"}


class Diffusion(Section):
    """The noise schedule, and what the network predicts.

    ``ddpm`` is discrete: it reads `num_timesteps`, the `beta` keys and `zero_terminal_snr`. The other
    schedules are continuous in time: they read `schedule_options` only.
    """

    schedule: Literal["ddpm", "flow", "edm", "vp", "cosine", "ve"] = "ddpm"
    schedule_options: dict[str, FiniteFloat] = Field(default_factory=dict)
    num_timesteps: Annotated[int, Field(ge=2, le=limits.STEPS)] = 1000
    beta_schedule: Literal["linear", "cosine", "quadratic", "sigmoid"] = "linear"
    beta_start: Share = 1e-4
    beta_end: Annotated[Share, Field(validate_default=True)] = 0.02
    parameterization: Annotated[
        Literal["eps", "x0", "v", "flow", "edm"] | None,
        Field(description="eps, x0, v, flow, edm, or null for the usual one of the schedule"),
    ] = None
    zero_terminal_snr: bool = False

    @field_validator("beta_end")
    @classmethod
    def _betas_rise(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("beta_start", 0.0):
            raise ValueError(f"more than beta_start, which is {info.data['beta_start']}")
        return value


class Conditioning(Section):
    """The classes. `num_classes` is that of the training data if it is null; 0 or `type` none means none."""

    type: Annotated[Literal["none", "class"], NullIsNone] = "class"
    num_classes: Annotated[
        Classes | None,
        Field(description="a number of classes up to 100,000, 0 for none, or null for those of the data"),
    ] = None
    class_dropout_prob: Probability = 0.1


class Model(Section):
    """The model to train. Generating takes the checkpoint's model, and warns if a file contradicts it."""

    architecture: Architecture = Architecture()
    diffusion: Diffusion = Diffusion()
    conditioning: Conditioning = Conditioning()

    def options(self, *, stated_only: bool = False) -> dict[str, Any]:
        """Return the model as `snowmelt.models.ModelSpec.from_config` takes it.

        Args:
            stated_only: leave out the defaults: return only what the file or an override states.

        `num_classes` is left out where the training data decides it.
        """
        unused = {"schedule_options"} if self.diffusion.schedule == "ddpm" else _OF_BETAS
        unused |= _OF_DIT if self.architecture.type == "unet" else _OF_UNET
        options: dict[str, Any] = {}
        for section in (self.architecture, self.diffusion, self.conditioning):
            options |= section.model_dump(exclude_unset=stated_only, exclude={"type", *unused})
        if not stated_only or "type" in self.architecture.model_fields_set:
            options["network"] = self.architecture.type
        if options.get("parameterization") is None:
            options.pop("parameterization", None)
        if "num_classes" in options:
            number = options.pop("num_classes")
            if self.conditioning.type == "none" or number == 0:
                options["num_classes"] = None
            elif number is not None:
                options["num_classes"] = number
        return options
