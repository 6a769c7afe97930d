"""The keys of a configuration, with types, ranges and defaults: each section is a frozen pydantic model.

`configs/diffusion/default.yaml` explains every key beside its default. Only `data.paths.train` (to train) and
`generation.checkpoint` (to generate) have no default. A value must have the type of its key: ``"16"`` is not
16, and ``true`` is not 1. Errors quote a key's `description`, if it has one, as what they expected.

Solvers, time grids and guidance have options of their own. They are checked where the method is made; all
other names are checked here.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails

__all__ = [
    "Architecture",
    "Augmentation",
    "Checkpointing",
    "ColorJitter",
    "Compute",
    "Conditioning",
    "Config",
    "Data",
    "Diffusion",
    "Ema",
    "Evaluation",
    "Generation",
    "GenerationOutput",
    "Loading",
    "Model",
    "Optimizer",
    "Output",
    "Paths",
    "Performance",
    "Resume",
    "Sampler",
    "Sampling",
    "Scheduler",
    "Section",
    "Subdirs",
    "Training",
    "Validation",
    "Visualization",
    "known_keys",
]

Share = Annotated[FiniteFloat, Field(gt=0, lt=1)]
Name = Annotated[str, Field(min_length=1)]
Positive = Annotated[FiniteFloat, Field(gt=0)]
NonNegative = Annotated[FiniteFloat, Field(ge=0)]
Probability = Annotated[FiniteFloat, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
# Keys that travel as JSON come back as text
ClassLabel = Annotated[
    NonNegativeInt,
    BeforeValidator(lambda key: int(key) if isinstance(key, str) and key.isdecimal() else key),
]
# `null` and "none" are two spellings of one choice
NullIsNone = BeforeValidator(lambda value: "none" if value is None else value)


class Section(BaseModel):
    """Abstract: a group of keys. Unknown keys are errors, and nothing can be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Compute(Section):
    """The device, and the seed of all random numbers."""

    device: Annotated[
        str,
        Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:N or mps"),
    ] = "auto"
    seed: NonNegativeInt = 0


class Architecture(Section):
    """The U-Net. `channel_multipliers` has one entry for each stage; so has a list of `use_attention`."""

    image_size: PositiveInt = 32
    in_channels: PositiveInt = 3
    model_channels: PositiveInt = 64
    channel_multipliers: Annotated[
        list[PositiveInt],
        Field(min_length=1, description="a list of positive integers, one for each stage"),
    ] = [1, 2, 2]
    use_attention: Annotated[
        bool | list[bool], Field(description="true, false, or a list of them, one for each stage")
    ] = False
    layers_per_block: PositiveInt = 2
    norm_groups: PositiveInt = 32
    attention_head_dim: Annotated[
        PositiveInt | None, Field(description="a positive integer, or null for one head")
    ] = 8
    dropout: Probability = 0.0

    @field_validator("use_attention")
    @classmethod
    def _one_per_stage(cls, value: bool | list[bool], info: ValidationInfo) -> bool | list[bool]:
        stages = len(info.data.get("channel_multipliers", ()))
        if stages and isinstance(value, list) and len(value) != stages:
            raise ValueError(f"{stages} entries, one for each of the channel_multipliers, or true or false")
        return value


# The keys that describe a discrete schedule
_OF_BETAS = {"num_timesteps", "beta_schedule", "beta_start", "beta_end", "zero_terminal_snr"}


class Diffusion(Section):
    """The noise schedule, and what the network predicts.

    ``ddpm`` is discrete: it reads `num_timesteps`, the `beta` keys and `zero_terminal_snr`. The other
    schedules are continuous in time: they read `schedule_options` only.
    """

    schedule: Literal["ddpm", "flow", "edm", "vp", "cosine", "ve"] = "ddpm"
    schedule_options: dict[str, FiniteFloat] = {}
    num_timesteps: Annotated[int, Field(ge=2)] = 1000
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
    """The classes. The model is unconditional if `type` is none or `num_classes` is null or 0."""

    type: Annotated[Literal["none", "class"], NullIsNone] = "class"
    num_classes: Annotated[
        NonNegativeInt | None, Field(description="a number of classes, or null for none")
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
        """
        discrete = self.diffusion.schedule == "ddpm"
        unused = {"schedule", "schedule_options"} if discrete else _OF_BETAS
        options: dict[str, Any] = {}
        for section in (self.architecture, self.diffusion, self.conditioning):
            options |= section.model_dump(exclude_unset=stated_only, exclude={"type", *unused})
        if options.get("parameterization") is None:
            options.pop("parameterization", None)
        if "num_classes" in options:
            conditional = self.conditioning.type == "class"
            options["num_classes"] = options["num_classes"] or None if conditional else None
        return options


class Paths(Section):
    """Where the images are: a folder with one sub-folder for each class, or the name of a data set."""

    train: Annotated[
        str | None, Field(description="a folder of images, or a data set's name such as digits")
    ] = None
    val: str | None = None


class Loading(Section):
    """Batches of training images."""

    batch_size: PositiveInt = 64
    num_workers: NonNegativeInt = 0
    pin_memory: bool = False
    shuffle_train: bool = True
    drop_last: bool = False


class ColorJitter(Section):
    """Random brightness, contrast and saturation."""

    enabled: bool = False
    strength: NonNegative = 0.1


class Augmentation(Section):
    """Random changes to training images. `rotation_degrees` is the largest angle, in either direction."""

    horizontal_flip: bool = False
    rotation_degrees: Annotated[FiniteFloat, Field(ge=0, le=180)] = 0.0
    color_jitter: ColorJitter = ColorJitter()


class Data(Section):
    """The images to train on."""

    paths: Paths = Paths()
    loading: Loading = Loading()
    augmentation: Augmentation = Augmentation()


class Subdirs(Section):
    """Folders inside `output.base_dir`."""

    logs: Name = "logs"
    checkpoints: Name = "checkpoints"
    samples: Name = "samples"
    generated: Name = "generated"


class Output(Section):
    """The folders that snowmelt writes into."""

    base_dir: Name = "outputs/diffusion"
    subdirs: Subdirs = Subdirs()


class Optimizer(Section):
    """The optimizer; for sgd, the first of `betas` is the momentum."""

    type: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Positive = 1e-4
    weight_decay: NonNegative = 0.0
    betas: Annotated[
        tuple[Probability, Probability],
        Field(strict=False, description="a list of two numbers from 0 to below 1"),
    ] = (0.9, 0.999)
    gradient_clip_norm: Annotated[
        Positive | None, Field(description="a positive number, or null not to clip")
    ] = 1.0


class Scheduler(Section):
    """The learning rate falls to `eta_min` in `T_max` epochs; ``auto`` takes `training.epochs`."""

    type: Annotated[Literal["none", "constant", "cosine", "linear"], NullIsNone] = "none"
    T_max: Annotated[
        Literal["auto"] | PositiveInt, Field(description="auto, or a number of epochs above 0")
    ] = "auto"
    eta_min: NonNegative = 0.0


class Ema(Section):
    """The moving average of the weights."""

    enabled: bool = True
    decay: Share = 0.9999


class Checkpointing(Section):
    """Which checkpoints are written; `save_frequency` counts epochs."""

    save_frequency: PositiveInt = 10
    save_best_only: bool = False
    save_optimizer: bool = True


# Metrics of generated images: the keys of snowmelt.evaluation's METRICS
Metric = Literal[
    "fid", "fid_infinity", "kid", "inception_score", "precision", "recall", "density", "coverage"
]


class Validation(Section):
    """The loss on `data.paths.val` every `frequency` epochs; `metric` decides which model is the best."""

    enabled: bool = True
    frequency: PositiveInt = 1
    metric: Literal["loss", Metric] = "loss"


class Evaluation(Section):
    """Metrics that compare generated with training images, every `frequency` epochs."""

    enabled: bool = False
    frequency: PositiveInt = 10
    metrics: Annotated[
        list[Metric], Field(min_length=1, description="a list of metrics, such as [fid, recall]")
    ] = ["fid", "kid", "precision", "recall"]
    num_samples: Annotated[int, Field(ge=2)] = 1000
    guidance_scale: FiniteFloat = 0.0
    extractor: Annotated[
        str | None, Field(description="an extractor's name, or null to take one that suits the images")
    ] = None


class Visualization(Section):
    """Grids of samples, every `interval` epochs."""

    enabled: bool = True
    interval: PositiveInt = 10
    num_samples: PositiveInt = 16
    guidance_scale: FiniteFloat = 0.0


class Performance(Section):
    """Options for speed. Most of them act on CUDA only."""

    use_amp: bool = False
    use_tf32: bool = True
    cudnn_benchmark: bool = True
    compile_model: bool = False


class Resume(Section):
    """Continue from a checkpoint; without a path, from the latest one of this run."""

    enabled: bool = False
    checkpoint: str | None = None
    reset_optimizer: bool = False
    reset_scheduler: bool = False


class Training(Section):
    """How to train."""

    epochs: PositiveInt = 100
    optimizer: Optimizer = Optimizer()
    scheduler: Scheduler = Scheduler()
    ema: Ema = Ema()
    checkpointing: Checkpointing = Checkpointing()
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()
    visualization: Visualization = Visualization()
    performance: Performance = Performance()
    resume: Resume = Resume()

    @model_validator(mode="after")
    def _what_is_watched_is_measured(self) -> Training:
        metric, evaluation = self.validation.metric, self.evaluation
        if metric != "loss" and not (evaluation.enabled and metric in evaluation.metrics):
            raise ValueError(
                f"a validation.metric that is measured, not {metric}: set evaluation.enabled to true and add "
                f"{metric} to evaluation.metrics"
            )
        return self


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
        PositiveInt | Literal["all"] | None,
        Field(description="a positive integer, or all (or null) for every trained step"),
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
            raise _errors("extra_forbidden", *((name,) for name in wrong))
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

    num_samples: PositiveInt = 16
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
        dict[ClassLabel, PositiveInt] | None,
        Field(min_length=1, description="classes with their numbers of images, such as {3: 500, 7: 20}"),
    ] = None
    balance_to: Annotated[
        str | None, Field(description="a folder of images with one sub-folder for each class")
    ] = None
    seeds: Annotated[
        list[Seed] | None, Field(min_length=1, description="a list of seeds, one for each image")
    ] = None
    batch_size: Annotated[
        Literal["auto"] | PositiveInt, Field(description="auto, or a number of images above 0")
    ] = "auto"
    micro_batch: Annotated[
        Literal["auto"] | PositiveInt, Field(description="auto, or a number of images above 0")
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
    grid_nrow: PositiveInt = 10
    format: Literal["png", "class_folders", "npz", "webdataset", "parquet"] = "png"
    shard_size: Annotated[
        Literal["auto"] | PositiveInt, Field(description="auto, or a number of images above 0")
    ] = "auto"


class Generation(Section):
    """The checkpoint, the images to make, and the files to write."""

    checkpoint: Annotated[str | None, Field(description="the path of a checkpoint to generate from")] = None
    sampling: Sampling = Sampling()
    output: GenerationOutput = GenerationOutput()


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

    @field_validator("data")
    @classmethod
    def _training_needs_images(cls, data: Data, info: ValidationInfo) -> Data:
        if info.data.get("mode") == "train" and not data.paths.train:
            raise _errors("missing", ("paths", "train"))
        return data

    @field_validator("generation")
    @classmethod
    def _generating_needs_a_checkpoint(cls, generation: Generation, info: ValidationInfo) -> Generation:
        if info.data.get("mode") == "generate" and not generation.checkpoint:
            raise _errors("missing", ("checkpoint",))
        return generation


def known_keys(section: type[BaseModel] = Config, parent: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the dotted path and the field of every key that a file may have, sections included.

    The keys of a list's items come after the list's own key, as if the list were a section.

    >>> [path for path, field in known_keys(Data)][:4]
    ['paths', 'paths.train', 'paths.val', 'loading']
    """
    for name, field in section.model_fields.items():
        yield parent + name, field
        # A section, a list of sections, or a section that may be null
        for kind in get_args(field.annotation) or (field.annotation,):
            if inspect.isclass(kind) and issubclass(kind, BaseModel):
                yield from known_keys(kind, f"{parent}{name}.")


def _errors(kind: str, *paths: tuple[str, ...]) -> ValidationError:
    """Return pydantic's own error of that `kind` at `paths`, relative to the section that raises it."""
    return ValidationError.from_exception_data(
        "Config", [InitErrorDetails(type=kind, loc=path, input=None) for path in paths]
    )
