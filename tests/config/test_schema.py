"""The schema beside what it configures: the same defaults, the same vocabularies."""

from __future__ import annotations

import inspect

import pytest
from pydantic import ValidationError

from snowmelt.config import Config
from snowmelt.config.data import Data
from snowmelt.config.generation import Sampler, Sampling
from snowmelt.config.model import Architecture, Diffusion, Model
from snowmelt.config.schema import known_keys
from snowmelt.config.training import UNITS as LENGTHS
from snowmelt.config.training import Loss, Optimizer, Scheduler, Times, Training
from snowmelt.core import BETA_SCHEDULES, PARAMETERIZATIONS, SCHEDULES
from snowmelt.denoisers import THRESHOLDS
from snowmelt.evaluation.metrics import METRICS
from snowmelt.models import ModelSpec, create_ddpm, create_model
from snowmelt.networks import NETWORKS, UNet
from snowmelt.plans import GRIDS, PRESETS, SOLVERS, Method
from snowmelt.sampling import DiffusionSampler
from snowmelt.training import DISTRIBUTIONS, RATE_SCHEDULES, WEIGHTINGS, DiffusionTrainer
from snowmelt.training import Times as TimesOfCode
from snowmelt.training.length import UNITS
from snowmelt.training.optimizers import OPTIMIZERS


def defaults_of(*functions):
    parameters = [item for function in functions for item in inspect.signature(function).parameters.items()]
    return {name: item.default for name, item in parameters if item.default is not inspect.Parameter.empty}


# Where a file means more than a call
RECIPE = ("schedule", "schedule_options", "parameterization", "patch_size")


def test_but_for_the_recipe_an_empty_model_section_is_an_empty_call():
    code = defaults_of(create_ddpm, UNet)
    for name, value in Model().options().items():
        if name not in RECIPE:
            assert (tuple(value) if isinstance(value, list) else value) == code[name], name


@pytest.mark.parametrize(
    ("architecture", "diffusion", "recipe"),
    [
        ({}, {}, ("cosine", "x0", 2)),
        ({"image_size": 8}, {}, ("cosine", "v", 1)),
        ({"image_size": 28}, {}, ("cosine", "v", 1)),  # 2 would leave the third stage half a pixel
        ({"image_size": 28, "channel_multipliers": [1, 2]}, {}, ("cosine", "x0", 2)),
        ({"image_size": [64, 128]}, {}, ("cosine", "x0", 4)),
        ({"patch_size": 1}, {}, ("cosine", "v", 1)),
        ({}, {"parameterization": "v"}, ("cosine", "v", 2)),
        ({"patch_size": 1}, {"schedule": "flow"}, ("flow", "flow", 1)),
        ({"patch_size": 1}, {"beta_schedule": "cosine"}, ("ddpm-cosine", "eps", 1)),
        ({"type": "dit"}, {}, ("cosine", "v", 2)),
    ],
)
def test_what_is_not_stated_of_a_model_follows_from_what_is(architecture, diffusion, recipe):
    model = Model.model_validate({"architecture": architecture, "diffusion": diffusion})
    spec = ModelSpec.from_config(model.options())
    assert (spec.schedule, spec.parameterization, spec.network_options["patch_size"]) == recipe


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_of_the_file_is_its_constructor_and_reads_its_own_keys_alone(network):
    options, code = Model.model_validate({"architecture": {"type": network}}).options(), NETWORKS[network]
    assert options["network"] == network
    for name in Architecture.model_fields.keys() - {"type", "image_size", "in_channels", "patch_size"}:
        assert (name in options) == (name in inspect.signature(code).parameters)
        value = options.get(name, ())
        value = tuple(value) if isinstance(value, list) else value
        assert value == defaults_of(code).get(name, ()), name
    spec = ModelSpec.from_config({**options, "image_size": 8, "depth": 1} if network == "dit" else options)
    assert ModelSpec.from_config(spec.to_config()) == spec
    assert isinstance(spec.make_network(), code)


def test_a_model_of_the_file_states_every_argument():
    """The export to diffusers and others that read a checkpoint rely on it."""
    as_in_ddpm = {"architecture": {"patch_size": 1}, "diffusion": {"schedule": "ddpm"}}
    stated = ModelSpec.from_config(Model.model_validate(as_in_ddpm).options()).to_config()
    assert create_ddpm().config.items() <= stated.items()


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if not name.startswith("ddpm-")])
def test_a_continuous_schedule_is_a_call_of_create_model(schedule):
    size = {"image_size": 8, "in_channels": 1, "model_channels": 32}
    stated = {"architecture": size, "diffusion": {"schedule": schedule}}
    configured = ModelSpec.from_config(Model.model_validate(stated).options(stated_only=True)).build()
    called = create_model(**size, schedule=schedule)
    assert type(configured.schedule) is type(called.schedule)
    assert configured.schedule(0.5) == called.schedule(0.5)
    assert configured.parameterization.name == called.parameterization.name


@pytest.mark.parametrize(
    ("conditioning", "num_classes"),
    [
        ({"num_classes": 5}, 5),
        ({"num_classes": 0}, None),
        ({"num_classes": None}, "of the data"),
        ({"type": "none", "num_classes": 5}, None),
        ({"type": None, "num_classes": 5}, None),
        ({}, "of the data"),
    ],
)
def test_a_model_has_classes_if_the_file_gives_it_some(conditioning, num_classes):
    model = Model.model_validate({"conditioning": conditioning})
    assert model.options().get("num_classes", "of the data") == num_classes
    if conditioning.get("num_classes") is not None:
        assert model.options(stated_only=True) == {"num_classes": num_classes}


@pytest.mark.parametrize(("given", "size"), [([32, 64], [32, 64]), ([32, 32], 32), (32, 32)])
def test_an_image_has_a_side_or_two(given, size):
    model = Model.model_validate({"architecture": {"image_size": given}})
    saved = ModelSpec.from_config(model.options()).to_config()
    assert model.options()["image_size"] == size == saved["image_size"]


def test_an_empty_sampling_section_is_an_empty_call():
    code = defaults_of(DiffusionSampler)
    sampling = Sampling()
    assert (sampling.method, sampling.threshold) == (code["method"], code["threshold"])
    call = defaults_of(DiffusionSampler.sample)
    assert (sampling.guidance_scale, sampling.use_ema) == (call["guidance_scale"], call["use_ema"])


@pytest.mark.parametrize(
    ("section", "key", "table"),
    [
        (Architecture, "type", NETWORKS),
        (Diffusion, "beta_schedule", BETA_SCHEDULES),
        (Diffusion, "schedule", {"ddpm", *(name for name in SCHEDULES if not name.startswith("ddpm-"))}),
        (Diffusion, "parameterization", PARAMETERIZATIONS),
        (Loss, "weighting", WEIGHTINGS),
        (Times, "distribution", DISTRIBUTIONS),
        (Scheduler, "type", RATE_SCHEDULES),
        (Optimizer, "type", OPTIMIZERS),
        (Sampling, "threshold", {"auto", "none", *THRESHOLDS}),
        (Sampling, "preset", PRESETS),
    ],
)
def test_every_name_that_exists_can_be_configured_and_no_other(section, key, table):
    for name in table:
        assert getattr(section(**{key: name}), key) == name
    with pytest.raises(ValidationError) as caught:
        section(**{key: "nonsense"})
    offered = caught.value.errors()[0]["ctx"]["expected"]
    assert all(repr(name) in offered for name in table)
    assert offered.count("'") == 2 * len(table)


@pytest.mark.parametrize("function", [*SOLVERS.values(), *GRIDS.values()], ids=lambda f: f.__name__)
def test_no_option_of_a_solver_or_grid_is_taken_for_a_misspelling(function):
    options = dict.fromkeys(list(inspect.signature(function).parameters)[2:], 0.5)
    assert Sampler(**options).words().items() >= options.items()


@pytest.mark.parametrize("given", [{}, {"sampler": None}, {"sampler": {}}, {"preset": None, "plan": None}])
def test_a_file_that_states_no_method_leaves_it_to_the_checkpoint(given):
    assert Sampling.model_validate(given).method is None


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"preset": "ddpm"}, "ddpm"),
        ({"sampler": {"type": "ddim", "steps": 20, "eta": 0.5}}, "ddim:20 eta=0.5"),
        ({"sampler": {"type": "ddim", "steps": None}}, "ddim:all"),
        ({"sampler": {"type": "ddim", "steps": "all"}}, "ddim:all"),
        ({"sampler": {"type": "ddim"}}, "ddim"),
    ],
)
def test_a_file_states_the_method_that_its_text_form_states(given, text):
    assert Method.of(Sampling.model_validate(given).method) == Method.parse(text)


@pytest.mark.parametrize(
    "given",
    [
        {"preset": "fast", "sampler": {}},
        {"plan": "plan.json", "sampler": {"type": "ddim"}},
        {"plan": "plan.json", "preset": "fast"},
    ],
)
def test_there_is_one_method(given):
    with pytest.raises(ValidationError, match="one of sampler, preset, plan, not") as caught:
        Sampling.model_validate(given)
    assert all(name in str(caught.value) for name in given)
    nulled = dict.fromkeys(given) | {next(iter(given)): next(iter(given.values()))}
    assert Sampling.model_validate(nulled)


@pytest.mark.parametrize(
    "given", [{"preset": "fast"}, {"plan": "p.json"}, {"sampler": {"type": "ddim", "eta": 0.5}}]
)
def test_what_is_written_is_read_back_as_the_same(given):
    sampling = Sampling.model_validate(given)
    assert Sampling.model_validate(sampling.model_dump(mode="json")) == sampling


def test_but_for_the_recipe_an_empty_training_section_is_an_empty_call():
    code, training = defaults_of(DiffusionTrainer), Training()
    assert (training.times.distribution, training.accumulation) == (code["times"], code["accumulation"])
    ema = training.ema
    assert (ema.enabled, ema.snapshots) == (code["use_ema"], code["snapshots"])
    assert tuple("budget" if unit == "seconds" else unit for unit in UNITS) == LENGTHS
    assert TimesOfCode(**training.times.model_dump()) == TimesOfCode()


def test_every_metric_can_be_measured_while_training_and_choose_the_best_model():
    for name in METRICS:
        chosen = {"validation": {"metric": name}, "evaluation": {"enabled": True, "metrics": [name]}}
        assert Training.model_validate(chosen).validation.metric == name
        other = "kid" if name == "fid" else "fid"
        for nothing in ({"enabled": False, "metrics": [name]}, {"enabled": True, "metrics": [other]}):
            with pytest.raises(ValidationError, match=f"measured, not {name}"):
                Training.model_validate({**chosen, "evaluation": nothing})
    with pytest.raises(ValidationError):
        Training.model_validate({"evaluation": {"metrics": ["nonsense"]}})


def test_sections_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Architecture().image_size = 64


def test_stated_keys_can_be_told_from_defaults():
    config = Config.model_validate(
        {
            "mode": "generate",
            "generation": {"checkpoint": "m.pth"},
            "model": {"architecture": {"dropout": 0.0}},
        }
    )
    assert config.model.architecture.model_fields_set == {"dropout"}
    assert config.model.model_dump(exclude_unset=True) == {"architecture": {"dropout": 0.0}}


def test_each_class_of_the_schema_says_what_it_is():
    for path, field in known_keys():
        section = field.annotation
        if inspect.isclass(section) and hasattr(section, "model_fields"):
            assert section.__doc__, path


@pytest.mark.parametrize(
    ("given", "shares"),
    [
        ({}, (0.8, 0.1, 0.1, 0)),
        ({"train": 0.9, "val": 0.1}, (0.9, 0.1, 0.0, 0)),
        ({"train": 1.0, "seed": 3}, (1.0, 0.0, 0.0, 3)),
        ({"seed": 7}, (0.8, 0.1, 0.1, 7)),
    ],
)
def test_a_split_that_states_one_share_states_the_others_as_none(given, shares):
    split = Data(paths={"train": "x"}, split=given).split
    assert (split.train, split.val, split.test, split.seed) == shares


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split": {"val": 1.0}}, "less than 1"),
        ({"split": {}, "paths": {"train": "x", "val": "y"}}, "paths.val is stated, y: state one of the two"),
    ],
)
def test_a_split_that_cannot_be_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        Data(**given)
