"""The file of ``snowmelt augment``: what every stage of the job does.

docs/augment.md explains every key.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from snowmelt.config.data import Split
from snowmelt.config.schema import Compute
from snowmelt.config.section import Count, Duration, Name, Positive, Section, Seed, Share

__all__ = ["AugmentConfig", "Generating", "Judging", "Selecting", "Tuning"]


class Tuning(Section):
    """How the sampler is chosen: the scale whose images are nearest to validation images, by KID, and a plan.

    `nfe` is how many evaluations a plan takes that is tuned for that scale; null tunes none.
    """

    guidance_scales: list[FiniteFloat] = Field(
        default=[1.0, 2.0, 3.0], min_length=1, description="a list of numbers, one or more"
    )
    num_samples: Annotated[Count, Field(ge=20)] = 400
    method: Annotated[str | None, Field(description="as for --method, or null for the model's own")] = None
    nfe: Annotated[int | None, Field(ge=2, le=100, description="2 to 100 evaluations, or null")] = 8
    seed: Seed = 1


class Generating(Section):
    """How many images are made. With a ratio of 1, every class is filled up to the largest one."""

    ratios: list[Positive] = Field(default=[0.5, 1.0], min_length=1, description="a list of numbers above 0")
    seed: Seed = 2


class Selecting(Section):
    """Which of them are kept: shares of the images of a class that are nearest to real ones, without copies.

    Copies are nearer to a training image than the quantile `copies` of the validation images is.
    """

    keep: list[Annotated[FiniteFloat, Field(gt=0, le=1)]] = Field(
        default=[1.0, 0.7], min_length=1, description="a list of shares, above 0 to 1"
    )
    copies: Share = 0.01


class Judging(Section):
    """How classifiers are trained with and without the images; as for ``snowmelt evaluate --useful``."""

    seeds: Annotated[int, Field(ge=2, le=1000)] = 10
    steps: Annotated[Count | None, Field(description="batches of 64 in each training, or null")] = None


class AugmentConfig(Section):
    """A whole job.

    >>> config = AugmentConfig(data="digits")
    >>> config.split.test, config.generate.ratios
    (0.2, [0.5, 1.0])
    """

    data: Name
    budget: Annotated[Duration, Field(description="a length of time, such as 30m or 2h")] = "1h"
    seed: Seed = 0
    compute: Compute = Compute()
    extractor: Name = "imagenet"
    split: Split = Split(train=0.6, val=0.2, test=0.2)
    train: dict[str, Any] = Field(default={}, description="keys of snowmelt train, which change the proposal")
    tune: Tuning = Tuning()
    generate: Generating = Generating()
    select: Selecting = Selecting()
    judge: Judging = Judging()
