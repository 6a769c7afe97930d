"""The tables of options: nothing is lost on the way there and back, and no default is out of date."""

from __future__ import annotations

import inspect
import json
import warnings
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt import create_ddpm
from snowmelt.core import BETA_SCHEDULES, make_betas
from snowmelt.models.diffusers.scheduler_config import (
    SCHEDULERS,
    complete_scheduler,
    noise_schedule,
    sampling_method,
    schedule_options,
    scheduler_config,
    threshold_options,
)
from snowmelt.models.diffusers.unet_config import unet_config, unet_options
from snowmelt.networks import UNet
from snowmelt.plans import Method

STAGES = st.integers(1, 3).flatmap(
    lambda count: st.fixed_dictionaries(
        {
            "channel_multipliers": st.lists(st.integers(1, 3), min_size=count, max_size=count),
            "use_attention": st.one_of(
                st.booleans(), st.lists(st.booleans(), min_size=count, max_size=count)
            ),
        }
    )
)
OPTIONS = st.fixed_dictionaries(
    {
        "image_size": st.sampled_from([8, (8, 16)]),
        "in_channels": st.sampled_from([1, 3]),
        "model_channels": st.sampled_from([4, 8]),
        "layers_per_block": st.integers(1, 2),
        "mid_attention": st.booleans(),
        "mid_attention_norm_groups": st.sampled_from([None, 2]),
        "attention_head_dim": st.sampled_from([None, 2, 4]),
        "norm_groups": st.sampled_from([2, 4]),
        "norm_eps": st.sampled_from([1e-5, 1e-6]),
        "dropout": st.sampled_from([0.0, 0.25]),
        "num_classes": st.sampled_from([None, 1, 6]),
        "has_null_class": st.booleans(),
        "flip_sin_to_cos": st.booleans(),
        "freq_shift": st.sampled_from([0.0, 1.0]),
        "resnet_time_scale_shift": st.sampled_from(["default", "scale_shift"]),
        "downsample": st.sampled_from(["conv", "resnet"]),
        "upsample": st.sampled_from(["conv", "resnet"]),
        "downsample_padding": st.sampled_from([0, 1]),
        "mid_block_scale_factor": st.sampled_from([1.0, 2.0]),
    }
)


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


@given(options=OPTIONS, stages=STAGES)
@settings(max_examples=15, deadline=None)
def test_networks_keep_their_options_there_and_back(options, stages):
    network = UNet(**options, **stages)
    theirs = unet_config(network.config)
    assert json.loads(json.dumps(theirs)) == theirs
    assert shapes(UNet2DModel.from_config(theirs)) == shapes(network)
    again = create_ddpm(**unet_options(theirs)).network
    assert shapes(again) == shapes(network)
    assert unet_config(again.config) == theirs


SCHEDULES = st.fixed_dictionaries(
    {
        "num_timesteps": st.integers(2, 50),
        "beta_schedule": st.sampled_from(list(BETA_SCHEDULES)),
        "beta_start": st.floats(1e-4, 0.1),
        "beta_end": st.floats(0.1, 0.5),
        "zero_terminal_snr": st.booleans(),
        "parameterization": st.sampled_from(["x0", "v"]),
        "betas": st.none(),
    }
)
SAMPLINGS = st.fixed_dictionaries(
    {
        "grid": st.sampled_from(["leading", "trailing", "linspace"]),
        "threshold": st.sampled_from(
            [
                None,
                "clip",
                {"type": "clip", "bound": 2.0},
                {"type": "dynamic", "quantile": 0.9, "maximum": 3.0},
            ]
        ),
    }
)


@given(schedule=SCHEDULES, sampling=SAMPLINGS)
@settings(max_examples=50, deadline=None)
def test_schedules_keep_their_options_there_and_back(schedule, sampling):
    method = Method("ddpm", "all", sampling["grid"])
    theirs = scheduler_config(schedule, method, sampling["threshold"])
    assert json.loads(json.dumps(theirs)) == theirs
    assert schedule_options(theirs) == schedule
    assert sampling_method(theirs) == method
    assert threshold_options(theirs) == sampling["threshold"]
    DDPMScheduler.from_config(theirs)


@pytest.mark.parametrize("name", BETA_SCHEDULES)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_schedules_are_those_of_diffusers(name, zero_snr):
    theirs = {ours: theirs for theirs, ours in _beta_schedules().items()}[name]
    scheduler = DDPMScheduler(
        beta_schedule=theirs, rescale_betas_zero_snr=zero_snr, prediction_type="v_prediction"
    )
    schedule, parameterization = noise_schedule({**scheduler.config, "_class_name": "DDPMScheduler"})
    assert parameterization.name == "v"
    if not zero_snr:  # with it, their betas are the rescaled ones
        torch.testing.assert_close(schedule.betas, scheduler.betas.double(), rtol=0, atol=1e-7)
        torch.testing.assert_close(schedule.betas, make_betas(name), rtol=0, atol=0)
    level = schedule(schedule.t_of_index(torch.arange(1000.0, dtype=torch.float64)))
    expected = (1 - scheduler.betas.double()).cumprod(0)
    torch.testing.assert_close(level.alpha**2, expected, rtol=0, atol=1e-5)
    assert not zero_snr or level.alpha[-1] == 0


def _beta_schedules() -> dict[str, str]:
    names = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")
    return {
        name: schedule_options({"_class_name": "DDPMScheduler", "beta_schedule": name})["beta_schedule"]
        for name in names
    }


def test_the_networks_defaults_are_those_of_diffusers():
    defaults: dict[str, Any] = {
        name: item.default
        for name, item in inspect.signature(UNet2DModel.__init__).parameters.items()
        if name != "self"
    }
    assert unet_options({"sample_size": 64}) == unet_options({**defaults, "sample_size": 64})


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_schedulers_defaults_are_those_of_diffusers(name):
    stated = {**getattr(diffusers, name)().config, "_class_name": name}
    assert schedule_options({"_class_name": name}) == schedule_options(stated)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some sample as no plan does
        method = sampling_method({"_class_name": name})
        full = sampling_method(stated)
    assert (method.solver, method.steps, method.grid) == (full.solver, full.steps, full.grid)
    assert method.options.items() <= full.options.items()
    assert full.plan(noise_schedule(stated)[0]).nfe >= 50


@pytest.mark.parametrize(
    ("flag", "grid"), [("use_karras_sigmas", "karras"), ("use_exponential_sigmas", "exponential")]
)
def test_the_sigmas_of_k_diffusion_are_grids(flag, grid):
    config = {"_class_name": "DPMSolverMultistepScheduler", flag: True}
    assert sampling_method(config).grid == grid


def test_dynamic_thresholding_up_to_one_is_clipping():
    config = {"_class_name": "DDIMScheduler", "thresholding": True}
    assert threshold_options(complete_scheduler(config)) == "clip"
