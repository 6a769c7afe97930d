"""The sections of the model: the network, its noise schedule and its classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, FiniteFloat, ValidationInfo, field_validator, model_validator

from snowmelt import limits
from snowmelt.config.section import Classes, NullIsNone, Probability, Section, Share, Side, Width
from snowmelt.text import counted

__all__ = ["OF_BETAS", "Architecture", "Conditioning", "Diffusion", "Model", "usual_patch_size"]


def _default(**defaults: int) -> Any:
    """Return a field whose default depends on the type of the network."""
    return Field(default_factory=lambda data: defaults[data.get("type", "unet")])


def usual_patch_size(image_size: int) -> int:
    """Return the side of the squares of pixels that a U-Net works on.

    >>> [usual_patch_size(side) for side in (16, 32, 64, 128)]
    [1, 2, 2, 4]
    """
    return 1 if image_size <= 16 else 2 if image_size <= 64 else 4


def _patch_size(data: dict[str, Any]) -> int:
    """Return the usual size of patches, or a smaller one that divides the image with all stages."""
    if data.get("type", "unet") == "dit":
        return 2
    size, stages = data.get("image_size", 32), len(data.get("channel_multipliers", [1]))
    sides = [size] if isinstance(size, int) else size
    patch_size = usual_patch_size(max(sides))
    while patch_size > 1 and any(side % (patch_size * 2 ** (stages - 1)) for side in sides):
        patch_size //= 2
    return patch_size


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
    channel_multipliers: list[Annotated[int, Field(gt=0, le=limits.CHANNELS)]] = Field(
        default=[1, 2, 2],
        min_length=1,
        max_length=limits.STAGES,
        description="a list of positive integers, one for each stage, of at most 16, each up to 65,536",
    )
    patch_size: Width = Field(default_factory=_patch_size)
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
OF_BETAS = {"num_timesteps", "beta_schedule", "beta_start", "beta_end", "zero_terminal_snr"}


class Diffusion(Section):
    """The noise schedule, and what the network predicts.

    ``ddpm`` is discrete: it reads `num_timesteps`, the `beta` keys and `zero_terminal_snr`, one of which
    means it where no schedule is stated. With `learned_variance`, its network says how much noise a step of
    ancestral sampling adds. The other schedules are continuous in time and read `schedule_options` only.
    """

    schedule: Literal["ddpm", "flow", "edm", "vp", "cosine", "ve"] = "cosine"
    schedule_options: dict[str, FiniteFloat] = Field(default_factory=dict)
    num_timesteps: Annotated[int, Field(ge=2, le=limits.STEPS)] = 1000
    beta_schedule: Literal["linear", "cosine", "quadratic", "sigmoid"] = "linear"
    beta_start: Share = 1e-4
    beta_end: Annotated[Share, Field(validate_default=True)] = 0.02
    parameterization: Annotated[
        Literal["eps", "x0", "v", "flow", "edm"] | None,
        Field(description="eps, x0, v, flow, edm, or null for x0 on patches, else for that of the schedule"),
    ] = None
    zero_terminal_snr: bool = False
    learned_variance: bool = False

    @model_validator(mode="before")
    @classmethod
    def _betas_mean_ddpm(cls, data: Any) -> Any:
        of_betas = isinstance(data, Mapping) and "schedule" not in data and not OF_BETAS.isdisjoint(data)
        return {**data, "schedule": "ddpm"} if of_betas else data

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

    def completed(self, options: Mapping[str, Any]) -> Model:
        """Return this model, in which what nobody states is that of another one.

        The number of classes stays that of the data.

        Args:
            options: of the other one, as `options` returns them.
        """
        sections = {}
        for name, section in self:
            known = {key: options[key] for key in type(section).model_fields.keys() & options.keys()}
            known.pop("num_classes", None)
            sections[name] = {**known, **section.model_dump(exclude_unset=True)}
        if "network" in options:
            sections["architecture"] = {"type": options["network"], **sections["architecture"]}
        return Model.model_validate(sections)

    def options(self, *, stated_only: bool = False) -> dict[str, Any]:
        """Return the model as `snowmelt.models.ModelSpec.from_config` takes it.

        Args:
            stated_only: leave out the defaults: return only what the file or an override states.

        `num_classes` is left out where the training data decides it.
        """
        of_other_schedules = {"schedule_options"} if self.diffusion.schedule == "ddpm" else OF_BETAS
        of_other_networks = _OF_DIT if self.architecture.type == "unet" else _OF_UNET
        unused = of_other_schedules | of_other_networks
        options: dict[str, Any] = {}
        for section in (self.architecture, self.diffusion, self.conditioning):
            options |= section.model_dump(exclude_unset=stated_only, exclude={"type", *unused})
        if not stated_only or "type" in self.architecture.model_fields_set:
            options["network"] = self.architecture.type
        if options.get("parameterization") is None:
            options.pop("parameterization", None)
            # A U-Net on patches sees an image well and the noise of its pixels badly (Li & He 2025, arXiv
            # 2511.13720; docs/training.md)
            if not stated_only and self.architecture.type == "unet" and self.architecture.patch_size > 1:
                options["parameterization"] = "x0"
        if "num_classes" in options:
            number = options.pop("num_classes")
            if self.conditioning.type == "none" or number == 0:
                options["num_classes"] = None
            elif number is not None:
                options["num_classes"] = number
        return options
