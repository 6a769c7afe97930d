"""What all sections of a configuration share: their base class, and the types of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
)
from pydantic_core import InitErrorDetails

from snowmelt import limits
from snowmelt.text import seconds_in

__all__ = [
    "Batch",
    "ClassLabel",
    "Classes",
    "Count",
    "Duration",
    "Name",
    "NonNegative",
    "NullIsNone",
    "Positive",
    "Probability",
    "Section",
    "Seed",
    "Seen",
    "Share",
    "Side",
    "Width",
    "errors_at",
]

# What no machine can hold or no one can wait for is refused at its key, before anything is allocated
Side = Annotated[int, Field(gt=0, le=limits.SIDE)]
Width = Annotated[int, Field(gt=0, le=limits.CHANNELS)]
Batch = Annotated[int, Field(gt=0, le=limits.BATCH)]
Classes = Annotated[int, Field(ge=0, le=limits.CLASSES)]
Count = Annotated[int, Field(gt=0, le=limits.IMAGES)]
Seen = Annotated[int, Field(gt=0, le=limits.SEEN)]
Share = Annotated[FiniteFloat, Field(gt=0, lt=1)]
Name = Annotated[str, Field(min_length=1)]
Positive = Annotated[FiniteFloat, Field(gt=0)]
NonNegative = Annotated[FiniteFloat, Field(ge=0)]
Probability = Annotated[FiniteFloat, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, le=2**63)]
# Keys that travel as JSON come back as text
ClassLabel = Annotated[
    NonNegativeInt,
    BeforeValidator(lambda key: int(key) if isinstance(key, str) and key.isdecimal() else key),
]
# `null` and "none" are two spellings of one choice
NullIsNone = BeforeValidator(lambda value: "none" if value is None else value)


def _duration(text: str) -> str:
    seconds_in(text)
    return text


Duration = Annotated[str, AfterValidator(_duration)]


class Section(BaseModel):
    """Abstract: a group of keys. Unknown keys are errors, and nothing can be changed after validation.

    Attributes:
        alternatives: groups of keys that say one thing in different ways, so that at most one may be stated.
            An override of one takes the place of the others in the file.
        decided: keys, each with those that decide it too: their override takes its place in the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = ()
    decided: ClassVar[Mapping[str, tuple[str, ...]]] = {}


def errors_at(kind: str, *paths: tuple[str, ...]) -> ValidationError:
    """Return pydantic's own error of that `kind` at `paths`, relative to the section that raises it."""
    return ValidationError.from_exception_data(
        "Config", [InitErrorDetails(type=kind, loc=path, input=None) for path in paths]
    )
