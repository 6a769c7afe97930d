"""`SnowmeltScheduler`: diffusers' loops with our plans give what our own loop gives."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UNet2DModel,
    UniPCMultistepScheduler,
)

from snowmelt import DiffusionSampler
from snowmelt.adapters.diffusers import SnowmeltScheduler
from snowmelt.errors import InputError
from snowmelt.plans import PRESETS, SOLVERS, Plan, make_plan, make_preset
from snowmelt.tuning.forms import table_form

SHAPE = (2, 3, 8, 8)
SCHEDULE = {"num_train_timesteps": 100, "beta_end": 0.1}
MULTISTEP = ["ddpm", "ddim", "dpmpp_2m", "dpmpp_3m", "unipc", "sa_solver", "deis", "adams", "ipndm", "lms"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.manual_seed(1)
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    )
    folder = tmp_path_factory.mktemp("pipeline")
    DDIMPipeline(unet, DDIMScheduler(timestep_spacing="trailing", **SCHEDULE)).save_pretrained(folder)
    return folder


@cache
def loaded(folder: Path):
    return DDPMPipeline.from_pretrained(folder)


def pipeline(folder: Path, kind: type = DDPMPipeline, **changes: Any):
    """A pipeline with our scheduler; all of them share the network."""
    pipe = kind(loaded(folder).unet, loaded(folder).scheduler)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = SnowmeltScheduler.from_config(pipe.scheduler.config, **changes)
    return pipe


def ours(sampler: DiffusionSampler, plan: Plan, seed: int) -> torch.Tensor:
    """Run our own loop on the noise that a pipeline draws from a seed."""
    generator = torch.manual_seed(seed)

    def draw() -> torch.Tensor:
        return torch.randn(SHAPE, generator=generator)

    *_, last = sampler.run(plan, draw(), noise=draw)
    return (last.x_t / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_in_a_pipeline_is_our_own_loop(solver, folder):
    sampler = DiffusionSampler.from_pretrained(folder, solver=solver, steps=6)
    pipe = pipeline(folder, solver=solver)
    images = pipe(2, torch.manual_seed(7), num_inference_steps=6, output_type="pt").images
    assert pipe.scheduler.plan == sampler.plan
    assert len(pipe.scheduler.timesteps) == sampler.plan.nfe
    torch.testing.assert_close(images, ours(sampler, sampler.plan, 7), rtol=0, atol=1e-4)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "ddpm"])
def test_ready_plans_run_as_they_are(preset, folder):
    sampler = DiffusionSampler.from_pretrained(folder, preset=preset)
    pipe = pipeline(folder, plan_json=sampler.plan.to_json())
    images = pipe(2, torch.manual_seed(7), num_inference_steps=sampler.plan.nfe, output_type="pt").images
    torch.testing.assert_close(images, ours(sampler, sampler.plan, 7), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=f"a plan of {sampler.plan.nfe} evaluations, complete in itself"):
        pipe(2, num_inference_steps=50)


def test_a_tuned_table_runs_as_it_is(folder):
    """Its network is told times between the trained ones, and its rows weigh all outputs."""
    sampler = DiffusionSampler.from_pretrained(folder, solver="ipndm", steps=4, grid="tuned")
    form = table_form(sampler.model.schedule, sampler.plan)
    plan = form.make(form.numbers + 0.02 * np.sin(np.arange(len(form.numbers))))
    pipe = pipeline(folder, plan_json=plan.to_json())
    images = pipe(2, torch.manual_seed(7), num_inference_steps=4, output_type="pt").images
    torch.testing.assert_close(images, ours(sampler, plan, 7), rtol=0, atol=1e-4)


def test_ddims_own_pipeline_runs_it_and_its_eta_is_an_option(folder):
    pipe = pipeline(folder, DDIMPipeline, solver="ddim", options={"eta": 0.7})
    images = pipe(2, torch.manual_seed(7), num_inference_steps=5, output_type="pt").images
    sampler = DiffusionSampler.from_pretrained(folder, solver="ddim", steps=5, eta=0.7)
    torch.testing.assert_close(images, ours(sampler, sampler.plan, 7), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"got eta = 0\.5"):
        pipe(2, eta=0.5, num_inference_steps=5)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_and_ddpm_equal_diffusers_own(spacing, folder):
    for kind, solver in ((DDIMScheduler, "ddim"), (DDPMScheduler, "ddpm")):
        theirs = DDPMPipeline.from_pretrained(folder)
        theirs.set_progress_bar_config(disable=True)
        theirs.scheduler = kind.from_config(
            theirs.scheduler.config, timestep_spacing=spacing, clip_sample=False
        )
        mine = pipeline(folder, solver=solver, timestep_spacing=spacing, clip_sample=False)
        images = [
            pipe(2, torch.manual_seed(7), num_inference_steps=10, output_type="pt").images
            for pipe in (theirs, mine)
        ]
        torch.testing.assert_close(*images, rtol=0, atol=1e-4)


def run_from(scheduler: SnowmeltScheduler, k: int, x: torch.Tensor, network) -> torch.Tensor:
    """Loop over timesteps[k:] as image-to-image pipelines do."""
    generator = torch.manual_seed(3)
    for t in scheduler.timesteps[k:]:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, generator).prev_sample
    return x


def wave(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A network without weights, different at every time."""
    return torch.sin(x + 0.01 * t)


@pytest.mark.parametrize("solver", MULTISTEP)
def test_a_start_on_the_way_is_a_run_of_the_rest(solver):
    scheduler = SnowmeltScheduler(**SCHEDULE, solver=solver)
    scheduler.set_timesteps(8)
    images, noise = torch.randn(2, *SHAPE).unbind()
    x = scheduler.add_noise(images, noise, scheduler.timesteps[3:4].expand(2))
    found = run_from(scheduler, 3, x, wave)
    rest = SnowmeltScheduler(**SCHEDULE, solver=solver)
    rest.set_timesteps(timesteps=scheduler.timesteps[3:].tolist())
    assert rest.plan == make_plan(rest.schedule, solver, indices=rest.timesteps.tolist())
    torch.testing.assert_close(found, run_from(rest, 0, x, wave), rtol=0, atol=0)


def test_two_stages_start_together_or_not_at_all():
    scheduler = SnowmeltScheduler(**SCHEDULE, solver="heun")
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [99, 74, 74, 49, 49, 24, 24]
    x = torch.randn(SHAPE)
    assert run_from(scheduler, 2, x, wave).isfinite().all()
    scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match=r"timestep 49 comes next in this run, got 74"):
        run_from(scheduler, 1, x, wave)
    scheduler = SnowmeltScheduler(**SCHEDULE, solver="dpm2")
    scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match=r"no step of this plan begins at timestep .* 99, 74, 49, 24"):
        run_from(scheduler, 1, x, wave)


def test_one_scheduler_runs_again_and_again():
    scheduler = SnowmeltScheduler(**SCHEDULE, solver="dpmpp_3m")
    x = torch.randn(SHAPE)
    scheduler.set_timesteps(6)
    first = run_from(scheduler, 0, x, wave)
    torch.testing.assert_close(run_from(scheduler, 0, x, wave), first, rtol=0, atol=0)
    scheduler.step(wave(x, scheduler.timesteps[0]), scheduler.timesteps[0], x)  # and stop
    scheduler.set_timesteps(6)
    torch.testing.assert_close(run_from(scheduler, 0, x, wave), first, rtol=0, atol=0)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda scheduler: SnowmeltScheduler.from_config(scheduler.config)]
)
def test_two_schedulers_share_nothing(copied):
    one = SnowmeltScheduler(**SCHEDULE, solver="unipc")
    x, y = torch.randn(2, *SHAPE).unbind()
    one.set_timesteps(6)
    alone = [run_from(one, 0, start, wave) for start in (x, y)]
    two = copied(one)
    two.set_timesteps(6)
    for t in one.timesteps:  # in turn
        x = one.step(wave(x, t), t, x).prev_sample
        y = two.step(wave(y, t), t, y).prev_sample
    torch.testing.assert_close([x, y], alone, rtol=0, atol=0)


def test_a_copy_taken_on_the_way_goes_its_own_way():
    one = SnowmeltScheduler(**SCHEDULE, solver="dpmpp_3m")
    one.set_timesteps(6)
    x = torch.randn(SHAPE)
    whole = run_from(one, 0, x, wave)
    one.set_timesteps(6)
    for t in one.timesteps[:3]:
        x = one.step(wave(x, t), t, x).prev_sample
    two = copy.deepcopy(one)
    one.step(torch.zeros(SHAPE), one.timesteps[3], x)
    for t in two.timesteps[3:]:
        x = two.step(wave(x, t), t, x).prev_sample
    torch.testing.assert_close(x, whole, rtol=0, atol=0)


@pytest.mark.parametrize(
    "scheduler",
    [
        DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False),
        DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample_range=2.0),
        DDIMScheduler(
            rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"
        ),
        EulerDiscreteScheduler(beta_start=0.001, num_train_timesteps=500),
        HeunDiscreteScheduler(),
        PNDMScheduler(trained_betas=[0.1, 0.2, 0.3]),
        UniPCMultistepScheduler(timestep_spacing="linspace", thresholding=True, sample_max_value=3.0),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_another_schedulers_configuration_is_taken_over_with_its_defaults(scheduler):
    mine = SnowmeltScheduler.from_config(scheduler.config, solver="ddim")
    for name in mine.config.keys() & scheduler.config.keys() - {"_use_default_values", "_class_name"}:
        assert mine.config[name] == scheduler.config[name], name
    k = torch.arange(mine.config["num_train_timesteps"] if scheduler.config.trained_betas is None else 3)
    alpha_bar = mine.schedule(mine.schedule.t_of_index(k.double())).alpha.square().float()
    torch.testing.assert_close(alpha_bar, scheduler.alphas_cumprod, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 1000])
def test_timesteps_are_those_of_diffusers(spacing, steps):
    theirs = DDIMScheduler(timestep_spacing=spacing)
    mine = SnowmeltScheduler.from_config(theirs.config, solver="ddim")
    for scheduler in (theirs, mine):
        scheduler.set_timesteps(steps)
    if (spacing, steps) == ("linspace", 1):
        assert mine.timesteps.tolist() == [999]  # theirs, [0], would begin at the end
    else:
        assert mine.timesteps.tolist() == theirs.timesteps.tolist()


def test_an_offset_moves_the_leading_timesteps():
    theirs = DDIMScheduler(steps_offset=1)
    mine = SnowmeltScheduler.from_config(theirs.config)
    for scheduler in (theirs, mine):
        scheduler.set_timesteps(20)
    assert mine.timesteps.tolist() == theirs.timesteps.tolist()
    with pytest.raises(ValueError, match=r"offset 1 puts 1,000 steps at the indices 1\.\.1000"):
        mine.set_timesteps(1000)


def test_noise_is_added_as_diffusers_adds_it():
    images, noise = torch.randn(2, *SHAPE).unbind()
    timesteps = torch.tensor([3, 98])
    expected = DDPMScheduler(**SCHEDULE).add_noise(images, noise, timesteps)
    mine = SnowmeltScheduler(**SCHEDULE)
    torch.testing.assert_close(mine.add_noise(images, noise, timesteps), expected, rtol=0, atol=1e-5)
    one, other = (mine.add_noise(images, noise, torch.tensor([k])) for k in (3.25, 3.75))
    assert one.shape == SHAPE
    assert not torch.allclose(one, other)


def test_evaluations_between_the_trained_indices(folder):
    changes = {"grid": "karras", "grid_options": {"rho": 5.0}}
    pipe = pipeline(folder, solver="dpmpp_2m", **changes)
    images = pipe(2, torch.manual_seed(7), num_inference_steps=6, output_type="pt").images
    assert pipe.scheduler.timesteps.dtype == torch.float32
    sampler = DiffusionSampler.from_pretrained(folder, solver="dpmpp_2m", steps=6, grid="karras", rho=5.0)
    torch.testing.assert_close(images, ours(sampler, sampler.plan, 7), rtol=0, atol=1e-4)


def test_timesteps_and_sigmas_of_ones_own():
    scheduler = SnowmeltScheduler(solver="ddim")
    scheduler.set_timesteps(timesteps=[999, 850, 24])
    assert scheduler.timesteps.tolist() == [999, 850, 24]
    scheduler.set_timesteps(sigmas=[14.6, 1.0, 0.0])
    levels = scheduler.plan.levels
    assert [level.sigma / level.alpha for level in levels] == pytest.approx([14.6, 1.0, 0.0])


@pytest.mark.parametrize(
    "threshold", [{"clip_sample": True, "clip_sample_range": 0.5}, {"thresholding": True}]
)
def test_predicted_images_are_kept_in_range(threshold):
    scheduler = SnowmeltScheduler(**SCHEDULE, **threshold)
    scheduler.set_timesteps(4)
    result = scheduler.step(torch.randn(SHAPE), 99, torch.randn(SHAPE))
    bound = threshold.get("clip_sample_range", 1.0)
    assert result.pred_original_sample.abs().max() == pytest.approx(bound)


def test_dynamic_thresholding_is_theirs():
    config = {"thresholding": True, "dynamic_thresholding_ratio": 1.0, "sample_max_value": 2.0}
    theirs = DDIMScheduler(**SCHEDULE, **config, prediction_type="sample", timestep_spacing="trailing")
    mine = SnowmeltScheduler.from_config(theirs.config, solver="ddim")
    x, image = torch.randn(SHAPE), torch.tensor([0.5, 1.5]).view(2, 1, 1, 1) * torch.rand(SHAPE)
    for images in (image, 3 * image):  # below the largest threshold, and above
        results = []
        for scheduler in (theirs, mine):
            scheduler.set_timesteps(4)
            results.append(scheduler.step(images, 99, x).pred_original_sample)
        torch.testing.assert_close(*results, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_state_keeps_its_dtype(dtype):
    scheduler = SnowmeltScheduler(**SCHEDULE, solver="sa_solver")
    scheduler.set_timesteps(4)
    x = torch.randn(SHAPE)
    for name, state in (("exact", x.double()), ("rounded", x.to(dtype))):
        scheduler.set_timesteps(4)
        for t in scheduler.timesteps:
            state, image = scheduler.step(wave(state, t), t, state, torch.manual_seed(3), return_dict=False)
            assert state.dtype == image.dtype == (torch.float64 if name == "exact" else dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once_a_step(dtype):
    """In between it is computed with in float32: a step is the one of float32 states, rounded."""
    half, single = (SnowmeltScheduler(**SCHEDULE, solver="ddim", clip_sample=True) for _ in range(2))
    half.set_timesteps(10)
    single.set_timesteps(10)
    state = torch.randn(SHAPE).to(dtype)
    for t in half.timesteps:
        output = wave(state, t)
        expected = single.step(output.float(), t, state.float(), return_dict=False)
        found = half.step(output, t, state, return_dict=False)
        assert all(torch.equal(mine, exact.to(dtype)) for mine, exact in zip(found, expected, strict=True))
        state = found[0]


def test_every_image_may_have_its_own_generator():
    def run(generator) -> torch.Tensor:
        scheduler = SnowmeltScheduler(**SCHEDULE, solver="ddpm")
        scheduler.set_timesteps(4)
        x = torch.ones(SHAPE)
        for t in scheduler.timesteps:
            x = scheduler.step(wave(x, t), t, x, generator).prev_sample
        return x

    both = run([torch.Generator().manual_seed(seed) for seed in (1, 2)])
    swapped = run([torch.Generator().manual_seed(seed) for seed in (2, 1)])
    torch.testing.assert_close(swapped, both.flip(0), rtol=0, atol=0)


def test_its_configuration_is_saved_and_loaded_also_with_a_pipeline(folder, tmp_path):
    options = {"solver": "unipc", "options": {"order": 3}, "grid": "karras", "grid_options": {"rho": 5.0}}
    pipe = pipeline(folder, **options)
    pipe.save_pretrained(tmp_path)
    alone = SnowmeltScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    within = DDPMPipeline.from_pretrained(tmp_path).scheduler
    for scheduler in (pipe.scheduler, alone, within):
        assert isinstance(scheduler, SnowmeltScheduler)
        scheduler.set_timesteps(5)
    assert pipe.scheduler.plan == alone.plan == within.plan
    plan = make_preset(alone.schedule, "fast")
    SnowmeltScheduler(**SCHEDULE, plan_json=plan.to_json()).save_pretrained(tmp_path / "plan")
    again = SnowmeltScheduler.from_pretrained(tmp_path / "plan")
    again.set_timesteps(plan.nfe)
    assert again.plan == plan


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FlowMatchEulerDiscreteScheduler().config, "a scheduler without betas, as for flow matching or EDM"),
        (UniPCMultistepScheduler(use_flow_sigmas=True).config, "option use_flow_sigmas = True"),
        (DDPMScheduler(variance_type="learned").config, "option variance_type = 'learned'"),
        ({"beta_schedule": "laplace"}, "option beta_schedule = 'laplace'"),
    ],
    ids=["flow", "flow sigmas", "learned variance", "laplace"],
)
def test_schedulers_that_cannot_be_expressed_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        SnowmeltScheduler.from_config(config)


def test_steps_out_of_turn_are_refused():
    scheduler = SnowmeltScheduler(**SCHEDULE)
    x = torch.randn(SHAPE)
    with pytest.raises(ValueError, match="there is no plan yet: call set_timesteps first"):
        scheduler.step(x, 99, x)
    scheduler.set_timesteps(4)
    scheduler.step(x, 99, x)
    with pytest.raises(ValueError, match="timestep 74 comes next in this run, got 49"):
        scheduler.step(x, 49, x)
    with pytest.raises(ValueError, match="unknown solver 'dimm', did you mean 'ddim'"):
        SnowmeltScheduler(solver="dimm").set_timesteps(4)
    with pytest.raises(ValueError, match="use_clipped_model_output = False"):
        scheduler.step(x, 74, x, use_clipped_model_output=False)
