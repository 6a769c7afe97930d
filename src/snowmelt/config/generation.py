"""The sections of generation: the images to make, the method that makes them, and the files to write."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from snowmelt import limits
from snowmelt.config.section import Batch, ClassLabel, Count, Name, NullIsNone, Section, Seed, errors_at

__all__ = ["Generation", "GenerationOutput", "Guidance", "Sampler", "Sampling"]

# Arguments of DiffusionSampler that other keys set
_SET_ELSEWHERE = frozenset(
    {
        "device",
        "ema",
        "guidance",
        "memory_share",
        "micro_batch",
        "model",
        "plan",
        "preset",
        "solver",
        "threshold",
    }
)


class Sampler(Section):
    """Solver, steps and time grid. Every other key is an option of the solver or of the grid.

    ``steps: null`` is another way to say ``steps: all``.

    >>> Sampler(type="ddim", steps=50, eta=0.5).words()
    {'type': 'ddim', 'steps': 50, 'eta': 0.5}
    """

    model_config = ConfigDict(extra="allow")

    type: Name | None = None
    steps: Annotated[
        Annotated[int, Field(gt=0, le=limits.STEPS)] | Literal["all"] | None,
        Field(description="a number from 1 to 100,000, or all (or null) for every trained step"),
    ] = None
    grid: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_all(cls, data: Any) -> Any:
        stated_as_null = isinstance(data, dict) and "steps" in data and data["steps"] is None
        return {**data, "steps": "all"} if stated_as_null else data

    @model_validator(mode="after")
    def _options_are_options(self) -> Sampler:
        options = self.model_extra or {}
        known = type(self).model_fields
        wrong = [k for k in options if k in _SET_ELSEWHERE or difflib.get_close_matches(k, known, cutoff=0.8)]
        if wrong:
            raise errors_at("extra_forbidden", *((name,) for name in wrong))
        return self

    @model_serializer(mode="wrap")
    def _stated_only(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}

    def words(self) -> dict[str, Any]:
        """Return what the file states, in the form that `snowmelt.plans.Method.of` takes."""
        return self.model_dump()


class Guidance(Section):
    """The guidance method. Every other key is an option of that method.

    >>> Guidance(type="apg", scale=4.0, eta=0.2).options()
    {'type': 'apg', 'eta': 0.2}
    """

    model_config = ConfigDict(extra="allow")

    type: Name = "cfg"
    scale: Annotated[FiniteFloat | None, Field(description="a number, or null for guidance_scale")] = None

    def options(self) -> dict[str, Any]:
        """Return what `snowmelt.denoisers.guidance.make_guidance` takes."""
        return {"type": self.type, **(self.model_extra or {})}


# Three ways to name a method
_METHODS = ("sampler", "preset", "plan")
# Three ways to choose classes; the default is every class, in equal numbers
_CLASSES = ("class_selection", "class_counts", "balance_to")


class Sampling(Section):
    """Which images to make, and the method that makes them: one of `sampler`, `preset` and `plan`.

    The default is the checkpoint's own method; if it has none, the preset ``balanced``.

    `class_counts`, `balance_to` and `seeds` decide the number of images in place of `num_samples`.

    >>> Sampling(preset="fast").model_dump(exclude_defaults=True)
    {'preset': 'fast'}
    """

    alternatives = (_METHODS, _CLASSES, ("guidance_scale", "guidance.scale"))
    decided: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "num_samples": ("class_counts", "balance_to", "seeds")
    }

    num_samples: Count = 16
    guidance_scale: FiniteFloat = 0.0
    guidance: Annotated[
        Guidance | None, Field(description="a section with type, scale and options, or null")
    ] = None
    use_ema: bool = True
    sampler: Sampler | None = None
    preset: Literal["draft", "fast", "balanced", "quality", "ddpm"] | None = None
    plan: Annotated[str | None, Field(description="the path of a plan's JSON file")] = None
    class_selection: Annotated[
        list[NonNegativeInt] | None, Field(min_length=1, description="a list of classes, or null for all")
    ] = None
    class_counts: Annotated[
        dict[ClassLabel, Count] | None,
        Field(min_length=1, description="classes with their numbers of images, such as {3: 500, 7: 20}"),
    ] = None
    balance_to: Annotated[
        str | None, Field(description="a folder of images with one sub-folder for each class")
    ] = None
    seeds: Annotated[
        list[Seed] | None, Field(min_length=1, description="a list of seeds, one for each image")
    ] = None
    batch_size: Annotated[
        Literal["auto"] | Batch, Field(description="auto, or a number of images from 1 to 100,000")
    ] = "auto"
    micro_batch: Annotated[
        Literal["auto"] | Batch, Field(description="auto, or a number of images from 1 to 100,000")
    ] = "auto"
    memory_share: Annotated[
        FiniteFloat,
        Field(gt=0, le=1, description="the share of the free memory that auto may fill, above 0 to 1"),
    ] = 0.5
    threshold: Annotated[Literal["auto", "none", "clip", "dynamic"], NullIsNone] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _one_of_each(cls, data: Any) -> Any:
        for choices in (_METHODS, _CLASSES):
            given = [name for name in choices if isinstance(data, dict) and data.get(name) is not None]
            if len(given) > 1:
                raise ValueError(
                    f"one of {', '.join(choices)}, not {' and '.join(given)}: set the others to null"
                )
        return data

    @model_validator(mode="after")
    def _one_scale(self) -> Sampling:
        if "guidance_scale" in self.model_fields_set and self.guidance_scale != self.scale:
            raise ValueError(
                f"guidance_scale is {self.guidance_scale:g}, but guidance.scale is {self.scale:g}: state one"
            )
        return self

    @property
    def scale(self) -> float:
        """The guidance scale, from `guidance.scale` or from `guidance_scale`."""
        stated = self.guidance.scale if self.guidance is not None else None
        return self.guidance_scale if stated is None else stated

    @property
    def method(self) -> dict[str, Any] | None:
        """The method, in the form that `snowmelt.plans.Method.of` takes; None if the file states none."""
        stated = {"preset": self.preset, "plan": self.plan, **(self.sampler.words() if self.sampler else {})}
        return {name: value for name, value in stated.items() if value is not None} or None


class GenerationOutput(Section):
    """Which pictures to write, and in which format.

    A shard is a group of images that is finished, or lost, as a whole. With the formats `webdataset` and
    `parquet` it is one file.
    """

    save_individual: bool = True
    save_grid: bool = True
    grid_nrow: Batch = 10
    format: Literal["png", "class_folders", "npz", "webdataset", "parquet"] = "png"
    shard_size: Annotated[
        Literal["auto"] | Count, Field(description="auto, or a number of images from 1 to 10,000,000")
    ] = "auto"


class Generation(Section):
    """The checkpoint, the images to make, and the files to write."""

    checkpoint: Annotated[str | None, Field(description="the path of a checkpoint to generate from")] = None
    sampling: Sampling = Sampling()
    output: GenerationOutput = GenerationOutput()
