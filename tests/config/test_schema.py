"""The schema beside what it configures: the same defaults, the same vocabularies."""

from __future__ import annotations

import inspect

import pytest
from pydantic import ValidationError

from snowmelt.config import Config
from snowmelt.config.schema import Architecture, Diffusion, Model, Sampler, Sampling, Training, known_keys
from snowmelt.core import BETA_SCHEDULES, PARAMETERIZATIONS, SCHEDULES, make_schedule
from snowmelt.denoisers import THRESHOLDS
from snowmelt.evaluation.metrics import METRICS
from snowmelt.models import create_ddpm, create_model
from snowmelt.plans import GRIDS, PRESETS, SOLVERS
from snowmelt.sampling import DiffusionSampler


def defaults_of(*functions):
    parameters = [item for function in functions for item in inspect.signature(function).parameters.items()]
    return {name: item.default for name, item in parameters if item.default is not inspect.Parameter.empty}


def test_an_empty_model_section_is_an_empty_call():
    configured, called = create_ddpm(**Model().options()), create_ddpm()
    assert configured.network.config == called.network.config
    assert configured.spec.schedule_options == called.spec.schedule_options
    names = ("image_shape", "num_classes", "null_class", "class_dropout_prob", "parameterization")
    assert all(getattr(configured, name) == getattr(called, name) for name in names)


def test_every_noise_schedule_can_be_configured():
    continuous = [name for name in SCHEDULES if not name.startswith("ddpm-")]
    small = {"image_size": 8, "model_channels": 32, "channel_multipliers": [1]}
    for name in continuous:
        section = Model.model_validate({"architecture": small, "diffusion": {"schedule": name}})
        model = create_model(**section.options())
        assert model.schedule(0.5) == make_schedule(name)(0.5)
        assert model.parameterization.name == model.schedule.usual_prediction
    with pytest.raises(ValidationError) as caught:
        Diffusion(schedule="nonsense")
    assert caught.value.errors()[0]["ctx"]["expected"].count("'") == 2 * (len(continuous) + 1)


@pytest.mark.parametrize(
    ("conditioning", "num_classes"),
    [
        ({"num_classes": 5}, 5),
        ({"num_classes": 0}, None),
        ({"type": "none", "num_classes": 5}, None),
        ({"type": None, "num_classes": 5}, None),
        ({}, None),
    ],
)
def test_a_model_has_classes_if_the_file_gives_it_some(conditioning, num_classes):
    model = Model.model_validate({"conditioning": conditioning})
    assert model.options()["num_classes"] == num_classes
    assert model.options(stated_only=True) == ({"num_classes": num_classes} if conditioning else {})


def test_an_empty_sampling_section_is_an_empty_call():
    code = defaults_of(DiffusionSampler)
    sampling = Sampling()
    for name, value in {**sampling.sampler.arguments(), "threshold": sampling.threshold}.items():
        assert value == code[name], name
    call = defaults_of(DiffusionSampler.sample)
    assert (sampling.guidance_scale, sampling.use_ema) == (call["guidance_scale"], call["use_ema"])


@pytest.mark.parametrize(
    ("section", "key", "table"),
    [
        (Diffusion, "beta_schedule", BETA_SCHEDULES),
        (Diffusion, "parameterization", PARAMETERIZATIONS),
        (Sampling, "threshold", {"none": None, **THRESHOLDS}),
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
    assert Sampler(**options).arguments().items() >= options.items()


@pytest.mark.parametrize("given", [{}, {"sampler": None}, {"preset": None, "plan": None}])
def test_without_a_method_it_is_ddpm_at_every_trained_step(given):
    sampling = Sampling.model_validate(given)
    assert (sampling.preset, sampling.plan) == (None, None)
    assert sampling.sampler.arguments() == {"solver": "ddpm", "steps": None, "grid": "trailing"}


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
