"""The sections of training: how a model learns from images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    FiniteFloat,
    ValidationInfo,
    field_validator,
    model_validator,
)

from snowmelt import limits
from snowmelt.config.section import (
    Batch,
    Count,
    Duration,
    Name,
    NonNegative,
    NullIsNone,
    Positive,
    Probability,
    Section,
    Seen,
    Share,
)

__all__ = [
    "Checkpointing",
    "Ema",
    "Evaluation",
    "Init",
    "Loss",
    "Optimizer",
    "Performance",
    "Resume",
    "Scheduler",
    "Times",
    "Training",
    "Validation",
    "Visualization",
]


# A folder's name may be a number
ClassName = Annotated[str, BeforeValidator(lambda name: str(name) if isinstance(name, int) else name)]
UNITS = ("epochs", "images", "steps", "budget")  # of the length of a run
EPOCHS = 100  # of a run whose length is not stated
WIDTH = 0.1  # of an average for which nothing is stated, a share of the run
RATES = {"muon": 3e-3, "sgd": 1e-4}  # where none is stated; else 1e-3


class Optimizer(Section):
    """The optimizer; for sgd, the first of `betas` is the momentum."""

    type: Literal["adam", "adamw", "sgd", "muon", "schedule_free_adamw"] = "muon"
    learning_rate: Positive = Field(default_factory=lambda data: RATES.get(data.get("type", "muon"), 1e-3))
    weight_decay: NonNegative = 0.0
    betas: Annotated[
        tuple[Probability, Probability],
        Field(strict=False, description="a list of two numbers from 0 to below 1"),
    ] = (0.9, 0.99)
    gradient_clip_norm: Annotated[
        Positive | None, Field(description="a positive number, or null not to clip")
    ] = 1.0


class Loss(Section):
    """How much each noise level counts. `options` are numbers of the weighting, such as gamma of min_snr.

    With `uncertainty`, the weighted error of each level is divided by its mean, which is learned.
    """

    weighting: Annotated[
        Literal["uniform", "min_snr", "truncated_snr", "p2", "edm", "sigmoid"] | None,
        Field(description="uniform, min_snr, truncated_snr, p2, edm, sigmoid, or null for the usual one"),
    ] = None
    options: dict[str, FiniteFloat] = Field(default_factory=dict)
    uncertainty: bool = False

    @field_validator("options")
    @classmethod
    def _of_a_weighting(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        if value and info.data.get("weighting", "unknown") is None:
            raise ValueError("the weighting that they belong to as well, such as weighting: min_snr")
        return value


class Times(Section):
    """How noise levels are drawn. Without a `distribution`, they are drawn as the schedule's paper does."""

    distribution: Annotated[
        Literal["uniform", "log_normal", "logit_normal"] | None,
        Field(description="uniform, log_normal, logit_normal, or null for that of the schedule's paper"),
    ] = None
    options: dict[str, FiniteFloat] = Field(default_factory=dict)
    stratified: bool = False
    shift: Positive = 1.0

    @field_validator("options", "stratified", "shift")
    @classmethod
    def _of_a_distribution(cls, value: Any, info: ValidationInfo) -> Any:
        unchanged = {"options": {}, "stratified": False, "shift": 1.0}[str(info.field_name)]
        if info.data.get("distribution", "unknown") is None and value != unchanged:
            raise ValueError("a distribution as well: uniform, log_normal or logit_normal")
        return value


class Scheduler(Section):
    """How the learning rate goes, in each step, over the run or over `T_max` epochs, and where it ends.

    Over the first `warmup` images, or a fiftieth of the run, it is multiplied with what rises linearly from
    0 to 1. `decay` is of ``wsd``; `tau` is of ``inverse_sqrt``, which without it takes the one that reaches
    `eta_min`.
    """

    type: Annotated[Literal["none", "constant", "cosine", "linear", "inverse_sqrt", "wsd"], NullIsNone] = (
        "linear"
    )
    T_max: Annotated[
        Literal["auto"] | Count, Field(description="auto, or a number of epochs from 1 to 10,000,000")
    ] = "auto"
    eta_min: NonNegative = 0.0
    decay: Annotated[FiniteFloat, Field(gt=0, le=1)] = 0.2
    tau: Annotated[
        Seen | None, Field(description="a number of images from 1 to 10^12, or null for that of eta_min")
    ] = None
    warmup: Annotated[
        int | None,
        Field(ge=0, le=limits.SEEN, description="images from 0 to 10^12, or null for a fiftieth of the run"),
    ] = None

    @field_validator("decay", "tau")
    @classmethod
    def _of_a_type(cls, value: Any, info: ValidationInfo) -> Any:
        type_, unchanged = {"decay": ("wsd", 0.2), "tau": ("inverse_sqrt", None)}[str(info.field_name)]
        if info.data.get("type", type_) != type_ and value != unchanged:
            raise ValueError(f"the type {type_} as well, not {info.data['type']}, which has no such number")
        return value

    def options(self) -> dict[str, float]:
        """Return the options of the type, by the names that it gives them."""
        if self.type == "wsd":
            return {"decay": self.decay}
        return {"tau": self.tau} if self.type == "inverse_sqrt" and self.tau is not None else {}


class Ema(Section):
    """The moving average of the weights: of a `decay`, or of a `width`, which is a share of the run.

    Of `snapshots`, so many over the run, ``snowmelt ema`` makes an average of any width.
    """

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("decay", "width"),)

    enabled: bool = True
    decay: Share | None = None
    width: Annotated[
        FiniteFloat | None,
        Field(gt=0, le=12**-0.5, description="a share of the run, above 0 and up to 0.2886, or null"),
    ] = None
    snapshots: Annotated[int, Field(ge=0, le=1000)] = 0

    @model_validator(mode="before")
    @classmethod
    def _some_profile(cls, data: Any) -> Any:
        stated = isinstance(data, Mapping) and (data.get("decay") or data.get("width")) is not None
        return {**data, "width": WIDTH} if isinstance(data, Mapping) and not stated else data

    @field_validator("width")
    @classmethod
    def _one_profile(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("decay") is not None:
            raise ValueError(f"null, since the decay is stated, {info.data['decay']}: state one of the two")
        return value

    def profile(self) -> dict[str, Any]:
        """Return the one that is stated, as `snowmelt.training.DiffusionTrainer` takes it."""
        return {"ema_decay": self.decay} if self.decay is not None else {"ema_width": self.width}


class Checkpointing(Section):
    """Which checkpoints are written: the latest one every so many `minutes`, and others beside it.

    Every `save_frequency` epochs, and every so many `images`, one more file is written. Of these, the
    `keep_last` newest stay, or all; with `save_best_only`, none.
    """

    save_frequency: Count = 10
    minutes: Annotated[
        FiniteFloat | None, Field(gt=0, description="minutes between two saves, above 0, or null for none")
    ] = 10.0
    images: Seen | None = None
    save_best_only: bool = False
    keep_last: Annotated[
        int | None, Field(ge=0, le=limits.IMAGES, description="a number of files, or null for all of them")
    ] = None
    save_optimizer: bool = True

    @field_validator("keep_last")
    @classmethod
    def _none_is_kept(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and info.data.get("save_best_only"):
            raise ValueError("null, since save_best_only is true, which keeps none: state one of the two")
        return value


# Metrics of generated images: the keys of snowmelt.evaluation's METRICS
Metric = Literal[
    "c2st", "kid", "fid_infinity", "precision", "recall", "density", "coverage", "inception_score", "fid"
]


class Validation(Section):
    """The loss on `data.paths.val` every `frequency` epochs; `metric` decides which model is the best."""

    enabled: bool = True
    frequency: Count = 1
    metric: Literal["loss", Metric] = "loss"


class Evaluation(Section):
    """Metrics that compare generated with training images, every `frequency` epochs."""

    enabled: bool = False
    frequency: Count = 10
    metrics: list[Metric] = Field(
        default=["c2st", "kid", "precision", "recall"],
        min_length=1,
        description="a list of metrics, such as [kid, recall]",
    )
    num_samples: Annotated[int, Field(ge=2, le=limits.IMAGES)] = 1000
    guidance_scale: FiniteFloat = 0.0
    extractor: Annotated[str | None, Field(description="an extractor's name, or null for imagenet")] = None


class Visualization(Section):
    """Grids of samples, every `interval` epochs."""

    enabled: bool = True
    interval: Count = 10
    num_samples: Count = 16
    guidance_scale: FiniteFloat = 0.0


class Performance(Section):
    """Options for speed and, as the last one, for memory. Most of them act on CUDA only."""

    use_tf32: bool = True
    cudnn_benchmark: bool = True
    compile_model: bool = False
    checkpoint_activations: bool = False


class Resume(Section):
    """Continue from a checkpoint; without a path, from the latest one of this run, if there is one."""

    enabled: bool = False
    checkpoint: str | None = None
    reset_optimizer: bool = False
    reset_scheduler: bool = False

    @field_validator("checkpoint")
    @classmethod
    def _is_resumed(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("enabled") is False:
            raise ValueError(
                "resume.enabled: true as well, or null; to start from its weights, set training.init"
            )
        return value


class Init(Section):
    """A model to start from: our checkpoint or run, a folder of diffusers, or a file of guided-diffusion.

    Unstated keys of `model` are those of that model. `classes` says for a class of the data which one of the
    file it starts as. Patterns are names of the network's parameters, or of a part of it, with ``*`` for
    anything: `freeze` keeps them as they are, `rates` multiplies their learning rate, and `unfreeze` lets
    them learn from a share of the run on. Of several that match, the last one counts. `flags` say how a file
    of guided-diffusion was trained, as `snowmelt import` takes them.
    """

    path: Name
    flags: dict[Name, Any] = Field(default_factory=dict)
    classes: dict[ClassName, str | Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    freeze: list[Name] = Field(default_factory=list)
    rates: dict[str, Positive] = Field(default_factory=dict)
    unfreeze: dict[str, Share] = Field(default_factory=dict)


def _as_path(init: Any) -> Any:
    return {"path": init} if isinstance(init, str) else init


class Training(Section):
    """How to train. The run ends after so many `epochs`, or `images`, or `steps` of the optimizer.

    With a `budget`, it ends after that time, and whatever follows the run follows the clock.

    A step takes the gradient of `accumulation` batches.
    """

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (UNITS,)

    epochs: Count | None = None
    images: Seen | None = None
    steps: Seen | None = None
    budget: Annotated[Duration | None, Field(description="a time such as 90s, 30m or 1h30m")] = None
    init: Annotated[
        Init | None,
        BeforeValidator(_as_path),
        Field(
            description="a checkpoint, or a folder of a run or of diffusers, a section with its path, or null"
        ),
    ] = None
    accumulation: Batch = 1
    loss: Loss = Loss()
    times: Times = Times()
    optimizer: Optimizer = Optimizer()
    scheduler: Scheduler = Scheduler()
    ema: Ema = Ema()
    checkpointing: Checkpointing = Checkpointing()
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()
    visualization: Visualization = Visualization()
    performance: Performance = Performance()
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(
        default=["tensorboard"], description="a list of tensorboard, wandb and mlflow; [] for none"
    )
    resume: Resume = Resume()

    @model_validator(mode="before")
    @classmethod
    def _some_length(cls, data: Any) -> Any:
        stated = isinstance(data, Mapping) and any(data.get(unit) is not None for unit in UNITS)
        return {**data, "epochs": EPOCHS} if isinstance(data, Mapping) and not stated else data

    @field_validator("images", "steps", "budget")
    @classmethod
    def _one_length(cls, value: Any, info: ValidationInfo) -> Any:
        stated = [f"{unit} {info.data[unit]}" for unit in UNITS if info.data.get(unit) is not None]
        if value is not None and stated:
            raise ValueError(f"null, since the run ends after {stated[0]} already: state one of the two")
        return value

    @field_validator("scheduler")
    @classmethod
    def _some_rates_never_reach_zero(cls, value: Scheduler, info: ValidationInfo) -> Scheduler:
        rate = info.data["optimizer"].learning_rate if "optimizer" in info.data else math.inf
        if value.type == "inverse_sqrt" and value.tau is None and not 0 < value.eta_min < rate:
            raise ValueError(
                f"a tau, or an eta_min above 0 and below the learning rate, {rate:g}, with inverse_sqrt"
            )
        return value

    @model_validator(mode="after")
    def _what_is_watched_is_measured(self) -> Training:
        metric, evaluation = self.validation.metric, self.evaluation
        if metric != "loss" and not (evaluation.enabled and metric in evaluation.metrics):
            raise ValueError(
                f"a validation.metric that is measured, not {metric}: set evaluation.enabled to true and add "
                f"{metric} to evaluation.metrics"
            )
        return self
