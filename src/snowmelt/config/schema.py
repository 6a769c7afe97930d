"""The keys of a configuration, with types, ranges and defaults: each section is a frozen pydantic model.

`configs/diffusion/default.yaml` explains every key beside its default. Only `data.paths.train` (to train) and
`generation.checkpoint` (to generate) have no default. A value must have the type of its key: ``"16"`` is not
16, and ``true`` is not 1. Errors quote a key's `description`, if it has one, as what they expected.

Solvers, time grids and guidance have options of their own. They are checked where the method is made; all
other names are checked here.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from snowmelt.config.data import Data
from snowmelt.config.generation import Generation
from snowmelt.config.model import Model
from snowmelt.config.section import Name, NullIsNone, Section, Seed, errors_at
from snowmelt.config.training import Training

__all__ = ["Compute", "Config", "Output", "Subdirs", "known_keys"]


class Compute(Section):
    """The device, the precision of its work, and the seed of all random numbers.

    With `sharding`, each of several training processes holds a part of the weights: ``fsdp``.
    """

    device: Annotated[
        str,
        Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:N or mps"),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"] | None,
        Field(description="auto, fp32, bf16, fp16, or null for auto to train and fp32 to generate"),
    ] = None
    sharding: Annotated[Literal["none", "fsdp"], NullIsNone] = "none"
    seed: Seed = 0


class Subdirs(Section):
    """Folders inside `output.base_dir`."""

    logs: Name = "logs"
    checkpoints: Name = "checkpoints"
    samples: Name = "samples"
    generated: Name = "generated"


class Output(Section):
    """The folders that snowmelt writes into."""

    base_dir: Name = "outputs/diffusion"  # of a run without a name; with one, that name stands in its place
    subdirs: Subdirs = Subdirs()


class Config(Section):
    """A whole configuration.

    `Section.model_fields_set` holds the keys that were stated; all others have their defaults.

    Raises:
        pydantic.ValidationError: lists every problem; `load_config` turns them into sentences.

    >>> config = Config(mode="generate", generation=Generation(checkpoint="model.pth"))
    >>> config.generation.sampling.num_samples, config.model.model_fields_set
    (16, set())
    """

    experiment: Name = "diffusion"
    mode: Literal["train", "generate"] = "train"
    compute: Compute = Compute()
    model: Model = Model()
    data: Annotated[Data, Field(validate_default=True)] = Data()
    output: Output = Output()
    training: Training = Training()
    generation: Annotated[Generation, Field(validate_default=True)] = Generation()

    @model_validator(mode="before")
    @classmethod
    def _old_word(cls, tree: Any) -> Any:
        """Take `training.performance.use_amp`, which was mixed precision on CUDA, and name its new place."""
        match tree:
            case {"training": {"performance": {"use_amp": bool(use_amp), **rest}, **training}, **others}:
                stated: Any = others.pop("compute", {})
            case _:
                return tree
        if not isinstance(stated, dict):
            return tree  # and it is refused where it stands
        compute = {"precision": "auto" if use_amp else "fp32", **stated}
        warnings.warn(
            f"training.performance.use_amp has moved: write compute.precision={compute['precision']} in its "
            "place. It is auto, fp32, bf16 or fp16",
            stacklevel=2,
        )
        return {**others, "compute": compute, "training": {**training, "performance": rest}}

    @model_validator(mode="before")
    @classmethod
    def _named_folder(cls, tree: Any) -> Any:
        """Let a run with a name write into a folder of that name."""
        match tree:
            case {"experiment": str(name), **others}:
                output: Any = others.get("output", {})
                if isinstance(output, dict) and "base_dir" not in output:
                    return {**tree, "output": {"base_dir": f"outputs/{name}", **output}}
        return tree

    @field_validator("data")
    @classmethod
    def _training_needs_images(cls, data: Data, info: ValidationInfo) -> Data:
        if info.data.get("mode") == "train" and not data.paths.train:
            raise errors_at("missing", ("paths", "train"))
        return data

    @field_validator("generation")
    @classmethod
    def _generating_needs_a_checkpoint(cls, generation: Generation, info: ValidationInfo) -> Generation:
        if info.data.get("mode") == "generate" and not generation.checkpoint:
            raise errors_at("missing", ("checkpoint",))
        return generation


def known_keys(section: type[BaseModel] = Config, parent: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the dotted path and the field of every key that a file may have, sections included.

    The keys of a list's items come after the list's own key, as if the list were a section.

    >>> [path for path, field in known_keys(Data)][:4]
    ['paths', 'paths.train', 'paths.val', 'split']
    """
    for name, field in section.model_fields.items():
        yield parent + name, field
        # A section, a list of sections, or a section that may be null
        for kind in get_args(field.annotation) or (field.annotation,):
            if inspect.isclass(kind) and issubclass(kind, BaseModel):
                yield from known_keys(kind, f"{parent}{name}.")
