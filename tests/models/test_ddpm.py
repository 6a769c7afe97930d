"""The model that is trained, and the paper's own sampling loop."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from snowmelt.denoisers import Clip
from snowmelt.models import DDPMModel, create_ddpm
from snowmelt.plans import integrate, make_plan


def small(**options) -> DDPMModel:
    options = {
        "image_size": 8,
        "in_channels": 1,
        "model_channels": 8,
        "channel_multipliers": (1, 2),
        "num_timesteps": 10,
        "beta_start": 1e-3,
        "beta_end": 0.4,
        "norm_groups": 4,
        **options,
    }
    model = create_ddpm(**options)
    with torch.no_grad():  # zero-initialised layers would hide mistakes
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def test_the_papers_loop_equals_the_ddpm_plan():
    model = small().double()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    draws = torch.randn(10, 2, 1, 8, 8, dtype=torch.float64)
    x_t = x
    for index in reversed(range(10)):
        x_t = model.denoise_step(x_t, index, noise=draws[9 - index])
    with torch.no_grad():
        planned = integrate(make_plan(model.schedule, "ddpm"), Clip(model), x, noise=iter(draws).__next__)
    torch.testing.assert_close(x_t, planned, rtol=1e-5, atol=1e-6)


def test_sample_gives_images_in_range():
    model = small(num_classes=3)
    samples = model.sample(3, torch.tensor([0, 1, 2]), guidance_scale=2.0)
    assert samples.shape == (3, 1, 8, 8)
    assert samples.abs().max() <= 1


def test_guided_steps_of_an_unconditional_model_are_refused():
    with pytest.raises(ValueError, match="needs a model with classes"):
        small().denoise_step(torch.zeros(1, 1, 8, 8), 3, guidance_scale=2.0)


@pytest.mark.parametrize("index", [-1, 10])
def test_steps_outside_the_trained_indices_are_refused(index):
    with pytest.raises(ValueError, match=r"index must lie in 0\.\.9"):
        small().denoise_step(torch.zeros(1, 1, 8, 8), index)


@pytest.mark.parametrize("parameterization", ["eps", "x0", "v", "flow", "edm"])
def test_the_configuration_rebuilds_the_model(parameterization):
    model = small(num_classes=4, parameterization=parameterization, use_attention=(False, True))
    again = create_ddpm(**json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    x, level, labels = torch.randn(2, 1, 8, 8), model.schedule(0.4), torch.tensor([0, 3])
    assert torch.equal(again.eval()(x, level, labels), model(x, level, labels))
    assert again.config == model.config


def test_no_labels_is_the_null_class():
    model = small(num_classes=3)
    x, level = torch.randn(2, 1, 8, 8), model.schedule(0.4)
    assert model.null_class == 3
    assert torch.equal(model(x, level), model(x, level, torch.tensor([3, 3])))
    assert not torch.equal(model(x, level), model(x, level, torch.tensor([0, 1])))


@pytest.mark.parametrize("num_classes", [None, 0])
def test_no_classes_is_an_unconditional_model(num_classes):
    model = small(num_classes=num_classes)
    assert model.num_classes is None
    assert model.null_class is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameterization": "score"}, "parameterization must be one of"),
        ({"zero_terminal_snr": True}, "take parameterization v or x0"),
        ({"class_dropout_prob": 1.0}, r"class_dropout_prob must lie in \[0, 1\)"),
        ({"beta_schedule": "exponential"}, "schedule must be one of"),
    ],
)
def test_impossible_models_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_a_low_precision_network_keeps_the_states_dtype():
    model = small().bfloat16()
    x = torch.randn(2, 1, 8, 8)
    x0 = model(x, model.schedule(0.4))
    assert x0.dtype == torch.float32
    torch.testing.assert_close(x0, model.float()(x, model.schedule(0.4)), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("parameterization", ["eps", "x0", "v", "flow", "edm"])
def test_a_model_can_be_sent_to_another_process(parameterization):
    model = small(parameterization=parameterization)
    again = pickle.loads(pickle.dumps(model))
    x, level = torch.randn(2, 1, 8, 8), model.schedule(0.4)
    assert torch.equal(again(x, level), model(x, level))
