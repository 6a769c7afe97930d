"""The sections of the images to train on: where they are, how they are divided, loaded and changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from PIL import ImageColor
from pydantic import AfterValidator, Field, FiniteFloat, ValidationInfo, field_validator, model_validator

from snowmelt.config.section import Batch, NonNegative, Probability, Section, Seed

__all__ = ["Augmentation", "Balance", "ColorJitter", "Data", "Loading", "Paths", "Split"]

PARTS = ("train", "val", "test")


class Paths(Section):
    """Where the images are: folders, a list of files, Parquet, tar or npz files, or a data set's name."""

    train: Annotated[
        str | None,
        Field(description="a folder of images, a list of them, or a data set's name such as digits"),
    ] = None
    val: str | None = None


class Split(Section):
    """The shares of the images to train, to validate and to test; `seed` decides which images these are.

    Where one share is stated, the others are 0 unless they are stated, too. `snowmelt.formats.Shares` checks
    that they add up to 1.
    """

    train: Annotated[FiniteFloat, Field(gt=0, le=1)] = 0.8
    val: Probability = 0.1
    test: Probability = 0.1
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _others_are_none(cls, data: Any) -> Any:
        stated = isinstance(data, Mapping) and any(part in data for part in PARTS)
        return {**dict.fromkeys(PARTS, 0.0), **data} if stated and isinstance(data, Mapping) else data


class Loading(Section):
    """Batches of training images. `cache` says where they are decoded to; `num_workers` threads decode."""

    batch_size: Batch = 64
    cache: Literal["auto", "memory", "disk", "none"] = "auto"
    num_workers: Annotated[int, Field(ge=0, le=1024)] = 0
    pin_memory: bool = False
    shuffle_train: bool = True
    drop_last: bool = False


class ColorJitter(Section):
    """Random brightness, contrast and saturation."""

    enabled: bool = False
    strength: NonNegative = 0.1


def _colour(name: str) -> str:
    try:
        numbers = len(ImageColor.getrgb(name))
    except ValueError:
        numbers = 0
    if numbers != 3:  # a fourth number would be its opacity
        raise ValueError("a colour, such as white, black or '#808080'")
    return name


Colour = Annotated[str, AfterValidator(_colour)]


class Augmentation(Section):
    """Random changes to training images; with `conditioned`, the network is told of them.

    `rotation_degrees` is the largest angle, in either direction. `scaling`, `stretching` and `translation`
    are standard deviations: of the binary logarithm of a factor, and of a share of the side. `fill` is the
    colour beyond the border of a moved image; null goes on as in a mirror.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation_degrees: Annotated[FiniteFloat, Field(ge=0, le=180)] = 0.0
    scaling: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.0
    stretching: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.0
    translation: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.0
    color_jitter: ColorJitter = ColorJitter()
    fill: Annotated[Colour | None, Field(description="a colour, such as white, or null for a mirror")] = None
    probability: Annotated[FiniteFloat, Field(gt=0, le=1)] = 1.0
    conditioned: bool = False

    @field_validator("conditioned")
    @classmethod
    def _on_some_change(cls, value: bool, info: ValidationInfo) -> bool:
        jitter = info.data.get("color_jitter", ColorJitter()).enabled
        others = (info.data.get(name) for name in info.data.keys() - {"color_jitter", "fill", "probability"})
        if value and not (jitter or any(others)):
            raise ValueError("a change that the network is told of, such as horizontal_flip or scaling")
        return value

    def options(self) -> dict[str, Any]:
        """Return the changes as `snowmelt.data.Augmentation` takes them."""
        jitter = self.color_jitter
        return {**dict(self), "color_jitter": jitter.strength if jitter.enabled else None}


class Balance(Section):
    """Classes of unequal size: `sampling` says how often images are shown, or `weights` how much they count.

    `beta` is of ``effective``.
    """

    sampling: Literal["none", "inverse", "effective", "up", "down"] = "none"
    weights: Literal["none", "inverse", "effective"] = "none"
    beta: Probability = 0.999


class Data(Section):
    """The images to train on. `background` is the colour behind transparent pixels.

    `split` divides those of `paths.train`, so that there is no `paths.val`.
    """

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("paths.val", "split"),)

    paths: Paths = Paths()
    split: Annotated[
        Split | None,
        Field(description="a section with train, val, test and seed, or null not to divide the images"),
    ] = None
    loading: Loading = Loading()
    background: Colour = "white"
    balance: Balance = Balance()
    augmentation: Augmentation = Augmentation()

    @field_validator("split")
    @classmethod
    def _one_validation(cls, value: Split | None, info: ValidationInfo) -> Split | None:
        paths = info.data.get("paths")
        if value is not None and paths is not None and paths.val is not None:
            raise ValueError(f"null, since paths.val is stated, {paths.val}: state one of the two")
        return value
