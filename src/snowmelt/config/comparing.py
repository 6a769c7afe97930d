"""The file of ``snowmelt compare``: a grid of ways to sample, and what measures the images.

`configs/diffusion/digits_compare.yaml` shows it in use and docs/comparing.md explains every key.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, field_validator, model_validator

from snowmelt.config.generation import Guidance, Sampler
from snowmelt.config.schema import Compute
from snowmelt.config.section import Name, NullIsNone, Section

__all__ = ["Compare", "ComparedSampler", "ComparisonConfig"]


class ComparedSampler(Sampler):
    """A row of the grid: a solver with its options, a preset, or the file of a plan.

    A solver without `steps` takes each number of the comparison; presets and plans have their own.
    """

    preset: Annotated[
        Literal["own", "draft", "fast", "balanced", "quality", "ddpm"] | None,
        Field(description="draft, fast, balanced, quality, ddpm, or own for the model's own method"),
    ] = None
    plan: Annotated[str | None, Field(description="the path of a plan's JSON file")] = None

    @model_validator(mode="after")
    def _ready_or_described(self) -> ComparedSampler:
        stated = sorted(self.model_fields_set | set(self.model_extra or {}))
        if (self.preset is not None or self.plan is not None) and len(stated) > 1:
            raise ValueError(
                f"a preset or a plan by itself, or a solver; not {' and '.join(stated)} together"
            )
        return self

    @property
    def has_own_steps(self) -> bool:
        """Whether it states its steps, so that it is not tried with other numbers of steps."""
        lists = {"times", "sigmas", "indices"} & set(self.model_extra or {})
        return bool(self.preset or self.plan or lists or "steps" in self.model_fields_set)


class Compare(Section):
    """The grid is checkpoints x samplers (x steps) x guidance_scales; all cells share classes and seeds."""

    checkpoints: list[Name] = Field(min_length=1, description="a list of checkpoints, one or more")
    samplers: list[ComparedSampler] = Field(
        [ComparedSampler(preset="own"), ComparedSampler(preset="fast"), ComparedSampler(type="ddim")],
        min_length=1,
        description="a list of solvers, presets and plans, such as [{type: ddim}]",
    )
    steps: list[PositiveInt] = Field(
        [10, 20, 50], min_length=1, description="a list of positive integers, one or more"
    )
    guidance_scales: list[FiniteFloat] = Field(
        [0.0], min_length=1, description="a list of numbers, one or more"
    )
    guidance: Guidance | None = Field(None, description="a section with type and options, or null")
    num_samples: PositiveInt = 1000
    class_selection: list[NonNegativeInt] | None = Field(
        None, min_length=1, description="a list of classes, or null for all"
    )
    use_ema: bool = True
    threshold: Annotated[Literal["auto", "none", "clip", "dynamic"], NullIsNone] = "auto"
    batch_size: Literal["auto"] | PositiveInt = Field(
        "auto", description="auto, or a number of images above 0"
    )
    real: Name = Field(description="images to measure by: a folder, a file, or a data set's name")
    train: str | None = Field(
        None, description="labelled images that the extractor classifier is trained on, or null"
    )
    extractor: Name = "imagenet"
    weights: str | None = None
    metrics: list[Name] = Field(
        ["kid", "c2st", "precision", "recall"],
        min_length=1,
        description="a list of metrics, the one that matters most first",
    )
    per_class: bool = False
    output: Name = "outputs/comparison"

    @field_validator("guidance")
    @classmethod
    def _scales_stand_elsewhere(cls, guidance: Guidance | None) -> Guidance | None:
        if guidance is not None and guidance.scale is not None:
            raise ValueError("no scale here: list it in guidance_scales")
        return guidance

    @field_validator("steps", "guidance_scales", "checkpoints", "metrics")
    @classmethod
    def _nothing_twice(cls, values: list[Any]) -> list[Any]:
        if len(set(values)) < len(values):
            raise ValueError("different values")
        return values


class ComparisonConfig(Section):
    """A whole file.

    >>> ComparisonConfig(compare=Compare(checkpoints=["model.pth"], real="digits:test")).compute.seed
    0
    """

    experiment: Name = "diffusion"
    compute: Compute = Compute()
    compare: Compare
