"""Diffusers' folders: whatever is read or written computes what diffusers computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import nn

from snowmelt import (
    Checkpoint,
    DDIMSampler,
    DiffusionDataLoader,
    DiffusionSampler,
    DiffusionTrainer,
    create_ddpm,
)
from snowmelt.errors import InputError
from snowmelt.models import EMA
from snowmelt.models.diffusers.folder import read_folder, write_folder
from snowmelt.models.weights import CheckpointError
from snowmelt.training.loss import denoising_loss

SMALL: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
PLAIN = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}

# What differs from SMALL
THEIRS: dict[str, dict[str, Any]] = {
    "attention below": {},
    "no attention": {**PLAIN, "add_attention": False},
    "attention in the middle": PLAIN,
    "small heads, many groups": {"attention_head_dim": 4, "norm_num_groups": 8, "norm_eps": 1e-6},
    "one head": {"attention_head_dim": None},
    "classes": {"num_class_embeds": 5},
    "three layers, gray": {"layers_per_block": 3, "in_channels": 1, "out_channels": 1},
    "three sizes": {
        "block_out_channels": (16, 8, 24),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "sample_size": (8, 12),
    },
    "scale and shift": {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 2},
    "residual resampling, mixed blocks": {
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 8, 16),
        "downsample_type": "resnet",
    },
    "as DDPM had it": {"downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "act_fn": "swish"},
    "a scaled middle": {"mid_block_scale_factor": 2**0.5},
}

OURS: dict[str, dict[str, Any]] = {
    "plain": {},
    "attention everywhere": {"use_attention": True, "attention_head_dim": 4},
    "no attention": {"mid_attention": False},
    "classes": {"num_classes": 5, "use_attention": [False, True]},
    "classes alone": {"num_classes": 5, "has_null_class": False, "class_dropout_prob": 0.0},
    "wide": {
        "image_size": (8, 12),
        "channel_multipliers": (2, 1, 3),
        "layers_per_block": 2,
        "norm_groups": 8,
    },
    "residual resampling": {"downsample": "resnet", "upsample": "resnet", "use_attention": [True, False]},
    "scale and shift": {"resnet_time_scale_shift": "scale_shift"},
    "gray v": {"in_channels": 1, "parameterization": "v", "zero_terminal_snr": True},
    "its own betas": {"betas": [0.01, 0.2, 0.1, 0.4]},
}


def shaken(network: nn.Module) -> Any:
    """Move all parameters off their start: layers that start at zero would hide mistakes."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def theirs(**options: Any) -> UNet2DModel:
    return shaken(UNet2DModel(**{**SMALL, **options}))


def ours(**options: Any):
    small = {"image_size": 8, "model_channels": 8, "channel_multipliers": (1, 2), "layers_per_block": 1}
    return shaken(create_ddpm(**{**small, "norm_groups": 4, "num_timesteps": 20, "beta_end": 0.3, **options}))


def checkpoint_of(model, **facts: Any) -> Checkpoint:
    return Checkpoint.of(model, **facts)


def saved(folder: Path, unet: UNet2DModel | None = None, **scheduler: Any) -> Path:
    unet = unet or theirs()
    DDIMPipeline(unet, DDIMScheduler(**scheduler)).save_pretrained(folder)
    return folder


def assert_same_network(network: nn.Module, unet: UNet2DModel, height: int = 8, width: int = 12) -> None:
    x, timesteps = torch.randn(3, unet.config.in_channels, height, width), torch.tensor([1.0, 7.5, 19.0])
    labels = None if unet.class_embedding is None else torch.tensor([0, 4, 2])
    with torch.no_grad():
        expected = unet(x, timesteps, labels).sample
        assert expected.std() > 1e-3  # or equality would say nothing
        torch.testing.assert_close(network(x, timesteps, labels), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", THEIRS)
def test_what_diffusers_saved_computes_the_same_here(name, tmp_path):
    unet = theirs(**THEIRS[name])
    unet.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"no scheduler_config.json: DDPM's schedule is taken"):
        sampler = DiffusionSampler.from_pretrained(tmp_path)
    assert_same_network(sampler.model.network.eval(), unet)
    assert sampler.model.config == {**create_ddpm(**sampler.model.config).config}


@pytest.mark.parametrize("name", OURS)
def test_what_is_exported_computes_the_same_there(name, tmp_path):
    model = ours(**OURS[name])
    write_folder(checkpoint_of(model), tmp_path / "model")
    unet, info = UNet2DModel.from_pretrained(tmp_path / "model", subfolder="unet", output_loading_info=True)
    assert not any(info.values())
    assert_same_network(model.network, unet)
    scheduler = DDPMPipeline.from_pretrained(tmp_path / "model").scheduler
    levels = [model.schedule(model.schedule.t_of_index(k)) for k in range(len(scheduler.betas))]
    alpha_bar = torch.tensor([level.alpha**2 for level in levels])
    torch.testing.assert_close(scheduler.alphas_cumprod, alpha_bar, rtol=1e-4, atol=1e-6)


def test_what_a_network_was_told_of_augmentation_stays_behind(tmp_path):
    model = ours(augment_channels=3)
    write_folder(checkpoint_of(model), tmp_path / "model")
    again = DiffusionSampler.from_pretrained(tmp_path / "model").model
    x_t, times = torch.randn(2, 3, 8, 8), torch.tensor([1.0, 7.0])
    assert torch.equal(again.network.eval()(x_t, times), model.network(x_t, times))


@pytest.mark.parametrize("name", OURS)
def test_out_and_in_again_is_the_same_model(name, tmp_path):
    model = ours(**OURS[name])
    write_folder(checkpoint_of(model), tmp_path / "model")
    again = DiffusionSampler.from_pretrained(tmp_path / "model").model
    assert again.null_class == model.null_class
    assert (again.num_classes, again.image_shape) == (model.num_classes, model.image_shape)
    assert again.parameterization == model.parameterization
    torch.testing.assert_close(again.schedule.betas, model.schedule.betas, rtol=0, atol=0)
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    write_folder(checkpoint_of(again), tmp_path / "again")
    for file in ("unet/config.json", "scheduler/scheduler_config.json"):
        assert (tmp_path / "again" / file).read_text() == (tmp_path / "model" / file).read_text()


@pytest.mark.parametrize(
    ("spacing", "steps", "prediction"),
    [
        ("leading", 10, "epsilon"),
        ("trailing", 10, "sample"),
        ("leading", 7, "v_prediction"),
        ("trailing", 25, "epsilon"),
    ],
)
def test_a_whole_ddim_run_equals_the_pipelines(spacing, steps, prediction, tmp_path):
    config = {"num_train_timesteps": 100, "beta_end": 0.1, "clip_sample": True, "prediction_type": prediction}
    saved(tmp_path, timestep_spacing=spacing, **config)
    pipeline = DDIMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        3, torch.manual_seed(5), num_inference_steps=steps, use_clipped_model_output=True, output_type="pt"
    ).images
    sampler = DiffusionSampler.from_pretrained(tmp_path, steps=steps)
    *_, last = sampler.run(sampler.plan, torch.randn(3, 3, 8, 8, generator=torch.manual_seed(5)))
    torch.testing.assert_close((last.x_t / 2 + 0.5).clamp(0, 1), expected, rtol=0, atol=1e-5)


def test_a_whole_ddim_run_without_clipping_equals_the_pipelines(tmp_path):
    saved(tmp_path, num_train_timesteps=50, beta_end=0.1, clip_sample=False)
    pipeline = DDIMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(2, torch.manual_seed(5), num_inference_steps=50, output_type="pt").images
    sampler = DiffusionSampler.from_pretrained(tmp_path)
    assert (sampler.threshold, sampler.plan.nfe) == (None, 50)
    *_, last = sampler.run(sampler.plan, torch.randn(2, 3, 8, 8, generator=torch.manual_seed(5)))
    torch.testing.assert_close((last.x_t / 2 + 0.5).clamp(0, 1), expected, rtol=0, atol=1e-4)


def test_a_whole_ddpm_run_of_an_export_equals_ours(tmp_path):
    model = ours()
    write_folder(checkpoint_of(model), tmp_path / "model")
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(2, torch.manual_seed(5), num_inference_steps=20, output_type="pt").images
    sampler = DiffusionSampler.from_pretrained(tmp_path / "model")
    assert sampler.plan.name == "ddpm"
    generator = torch.manual_seed(5)

    def draw():
        return torch.randn(2, 3, 8, 8, generator=generator)

    *_, last = sampler.run(sampler.plan, draw(), noise=draw)
    torch.testing.assert_close((last.x_t / 2 + 0.5).clamp(0, 1), expected, rtol=0, atol=1e-5)


def test_the_folder_says_how_to_sample_where_nobody_else_does(tmp_path):
    saved(tmp_path, timestep_spacing="trailing", clip_sample_range=2.0)
    sampler = DiffusionSampler.from_pretrained(tmp_path)
    assert (sampler.plan.name, sampler.plan.nfe) == ("ddim", 50)
    assert sampler.threshold == {"type": "clip", "bound": 2.0}
    other = DiffusionSampler.from_pretrained(tmp_path, preset="draft", threshold=None)
    assert (other.plan.nfe, other.threshold) == (6, None)
    assert DiffusionSampler.from_pretrained(tmp_path, indices=[99, 5]).plan.levels[0].t == 0.1
    assert DDIMSampler.from_pretrained(tmp_path, steps=3).plan.nfe == 3


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_checkpoint_keeps_all_of_it(suffix, tmp_path):
    betas = [0.01, 0.2, 0.1, 0.4]
    saved(
        tmp_path / "model", trained_betas=betas, clip_sample_range=1.5, steps_offset=1, num_train_timesteps=4
    )
    read_folder(tmp_path / "model").write(tmp_path / f"model.{suffix}")
    direct, stored = (
        DiffusionSampler.from_pretrained(tmp_path / name, use_ema=False, steps=2)
        for name in ("model", f"model.{suffix}")
    )
    assert stored.plan == direct.plan
    assert stored.threshold == direct.threshold == {"type": "clip", "bound": 1.5}
    assert stored.model.schedule.betas.tolist() == betas
    torch.testing.assert_close(stored.model.state_dict(), direct.model.state_dict(), rtol=0, atol=0)


def test_ema_weights_are_exported_unless_told_otherwise(tmp_path):
    model = ours()
    ema = EMA(model, decay=0.5)
    shaken(model)
    checkpoint = Checkpoint.of(model, ema)
    for use_ema, expected in ((True, ema.shadow), (False, model.state_dict())):
        write_folder(checkpoint, tmp_path / "model", use_ema=use_ema, overwrite=True)
        written = read_folder(tmp_path / "model").weights
        torch.testing.assert_close(written, dict(expected), rtol=0, atol=0)


def test_the_null_class_survives_diffusers(tmp_path):
    model = ours(num_classes=4)
    write_folder(checkpoint_of(model), tmp_path / "model")
    DDPMPipeline.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "again")
    sampler = DiffusionSampler.from_pretrained(tmp_path / "again", steps=2)
    assert (sampler.model.num_classes, sampler.model.null_class) == (4, 4)
    assert sampler.sample(1, [2], guidance_scale=2.0).isfinite().all()


def test_classes_without_a_null_class_need_labels_and_refuse_guidance(tmp_path):
    saved(tmp_path, theirs(num_class_embeds=5))
    sampler = DiffusionSampler.from_pretrained(tmp_path, solver="ddim", steps=2)
    assert (sampler.model.num_classes, sampler.model.null_class) == (5, None)
    assert sampler.sample(2, [4, 0]).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"class_labels are needed: .* no null class"):
        sampler.sample(1)
    with pytest.raises(ValueError, match="needs a model with classes and a null class"):
        sampler.sample(1, [4], guidance_scale=2.0)
    with pytest.raises(ValueError, match=r"class_dropout_prob is 0\.1, but there is no null class"):
        create_ddpm(**{**sampler.model.config, "class_dropout_prob": 0.1})


def test_an_imported_model_is_trained_further_with_all_its_labels(tmp_path):
    saved(tmp_path, theirs(in_channels=1, out_channels=1, num_class_embeds=10))
    model = DiffusionSampler.from_pretrained(tmp_path).model
    before = model.network.class_embedding.weight.clone()
    data = DiffusionDataLoader("digits:test", image_size=8, in_channels=1, batch_size=120)
    DiffusionTrainer(model, data, torch.optim.SGD(model.parameters(), lr=0.1)).train(num_epochs=1)
    assert (model.network.class_embedding.weight != before).any(dim=1).all()


@pytest.mark.parametrize("flat", [True, False])
def test_folders_of_old_versions_are_understood(flat, tmp_path):
    saved(tmp_path)
    unet = UNet2DModel.from_pretrained(tmp_path, subfolder="unet")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name: str) -> str:
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        return name

    weights = {renamed(name): value for name, value in unet.state_dict().items()}
    assert weights.keys() != unet.state_dict().keys()
    safetensors.torch.save_file(weights, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    if flat:  # all in one folder, as pipelines once were
        for part in ("unet", "scheduler"):
            for file in (tmp_path / part).iterdir():
                file.rename(tmp_path / file.name)
            (tmp_path / part).rmdir()
    assert_same_network(DiffusionSampler.from_pretrained(tmp_path).model.network.eval(), unet)


def test_weights_in_several_files_are_read(tmp_path):
    saved(tmp_path)
    unet = UNet2DModel.from_pretrained(tmp_path, subfolder="unet")
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(tmp_path / "unet", max_shard_size="20KB")
    assert len(list((tmp_path / "unet").glob("*.safetensors"))) > 1
    assert_same_network(DiffusionSampler.from_pretrained(tmp_path).model.network.eval(), unet.eval())


def test_half_precision_weights_are_read(tmp_path):
    unet = theirs()
    saved(tmp_path, UNet2DModel(**SMALL).half())
    unet = UNet2DModel.from_pretrained(tmp_path, subfolder="unet").float().eval()
    assert_same_network(DiffusionSampler.from_pretrained(tmp_path).model.network.eval(), unet)


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "option _class_name = 'UNet2DConditionModel'"),
        ({"act_fn": "gelu"}, "option act_fn = 'gelu' cannot be expressed; expected 'silu' or 'swish'"),
        ({"mid_block_type": None}, "option mid_block_type = None"),
        ({"class_embed_type": "timestep"}, "option class_embed_type = 'timestep'"),
        ({"time_embedding_type": "fourier"}, "option time_embedding_type = 'fourier' .* log t has no value"),
        ({"sample_size": [8]}, r"option sample_size = \[8\]"),
        ({"block_out_channels": 8}, "it holds a value of another kind"),
        ({"time_embedding_type": "learned"}, "option time_embedding_type = 'learned'"),
        ({"time_embedding_dim": 7}, "option time_embedding_dim = 7 cannot be expressed; expected None or 32"),
        ({"center_input_sample": True}, "option center_input_sample = True"),
        ({"resnet_time_scale_shift": "ada_group"}, "option resnet_time_scale_shift = 'ada_group'"),
        ({"downsample_padding": 2}, "option downsample_padding = 2"),
        ({"downsample_type": "fir"}, "option downsample_type = 'fir'"),
        ({"upsample_type": "fir"}, "option upsample_type = 'fir'"),
        ({"out_channels": 5}, "option out_channels = 5 cannot be expressed; expected 3 or 6"),
        ({"sample_size": None}, "option sample_size = None"),
        ({"norm_num_groups": None}, "option norm_num_groups = None"),
        ({"down_block_types": ["SkipDownBlock2D"] * 2}, "option down_block_types = 'SkipDownBlock2D'"),
        ({"up_block_types": ["KUpBlock2D"] * 2}, "option up_block_types = 'KUpBlock2D'"),
        ({"up_block_types": ["UpBlock2D"] * 2}, "option up_block_types = .* expected attention at the sizes"),
        ({"down_block_types": ["DownBlock2D"]}, "option down_block_types = .* expected one for each"),
        (
            {
                "block_out_channels": [8, 8, 16],
                "down_block_types": ["DownBlock2D", "ResnetDownsampleBlock2D", "DownBlock2D"],
                "up_block_types": ["UpBlock2D"] * 3,
            },
            "option down_block_types = .* expected blocks that all resample alike",
        ),
        ({"num_class_embeds": 5, "_null_class": 3}, "option _null_class = 3 .* expected 4"),
        ({"dropout_of_the_future": 0.1}, "option dropout_of_the_future = 0.1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_networks_that_cannot_be_expressed_are_refused_by_name(changes, message, tmp_path):
    saved(tmp_path)
    change(tmp_path / "unet" / "config.json", **changes)
    with pytest.raises(InputError, match=rf"unet.config\.json: {message}"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "option _class_name = 'FlowMatchEuler"),
        ({"_class_name": "ScoreSdeVeScheduler"}, "option _class_name = 'ScoreSdeVeScheduler'"),
        ({"beta_schedule": "laplace"}, "option beta_schedule = 'laplace' .* expected 'linear' or "),
        ({"prediction_type": "flow_prediction"}, "option prediction_type = 'flow_prediction'"),
        ({"variance_type": "learned"}, "option variance_type = 'learned'"),
        ({"variance_type": "learned_range"}, "option variance_type = 'learned_range' .* out_channels"),
        ({"use_flow_sigmas": True}, "option use_flow_sigmas = True"),
        ({"timestep_type": "continuous"}, "option timestep_type = 'continuous'"),
        ({"rescale_betas_zero_snr": True}, "option rescale_betas_zero_snr = True"),
        ({"timestep_spacing": "random"}, "option timestep_spacing = 'random'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_schedulers_that_cannot_be_expressed_are_refused_by_name(changes, message, tmp_path):
    saved(tmp_path)
    change(tmp_path / "scheduler" / "scheduler_config.json", **changes)
    with pytest.raises(InputError, match=rf"scheduler.scheduler_config\.json: {message}"):
        read_folder(tmp_path)


def test_a_learned_variance_steps_as_in_diffusers_is_trained_and_goes_back(tmp_path):
    unet = theirs(out_channels=6)
    scheduler = DDPMScheduler(20, beta_end=0.3, variance_type="learned_range")
    DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "theirs")
    checkpoint = read_folder(tmp_path / "theirs")
    model = checkpoint.model().eval()
    scheduler.set_timesteps(20)
    x_t = torch.randn(2, 3, 8, 8)
    for index in (0, 1, 13):
        first, second = (torch.Generator().manual_seed(index) for _ in range(2))
        with torch.no_grad():
            said = unet(x_t, index).sample
        expected = scheduler.step(said, index, x_t, generator=first).prev_sample
        noise = torch.randn(x_t.shape, generator=second)
        step = model.denoise_step(x_t, index, noise=noise)
        torch.testing.assert_close(step, expected, rtol=1e-5, atol=1e-5)
    denoising_loss(model, x_t.clamp(-1, 1)).backward()
    assert all(model.network.conv_out.bias.grad != 0), "the hybrid loss teaches the variance too"
    write_folder(checkpoint, tmp_path / "ours")
    again = DDPMPipeline.from_pretrained(tmp_path / "ours")
    assert again.scheduler.config.variance_type == "learned_range"
    assert_same_network(model.network, again.unet)


def test_other_ways_to_sample_are_said_in_one_warning(tmp_path):
    saved(tmp_path, set_alpha_to_one=False)
    change(tmp_path / "scheduler" / "scheduler_config.json", variance_type="fixed_large")
    with pytest.warns(UserWarning, match=r"set_alpha_to_one = False, variance_type = 'fixed_large': ddim"):
        read_folder(tmp_path)


@pytest.mark.parametrize("parameterization", ["flow", "edm"])
def test_predictions_that_diffusers_does_not_decode_are_refused(parameterization, tmp_path):
    with pytest.raises(InputError, match=f"option parameterization = '{parameterization}'.* 'eps' or 'x0'"):
        write_folder(checkpoint_of(ours(parameterization=parameterization)), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_pipelines_with_more_than_a_network_and_a_scheduler_are_refused(tmp_path):
    saved(tmp_path)
    change(tmp_path / "model_index.json", vqvae=["diffusers", "VQModel"], safety_checker=[None, None])
    with pytest.raises(InputError, match="DDIMPipeline has vqvae, which cannot be expressed"):
        read_folder(tmp_path)


def test_pickles_are_not_opened(tmp_path):
    saved(tmp_path)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match=r"model\.bin was not opened.* safe_serialization=True"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "unet" / "config.json").unlink(), "none of diffusers"),
        (lambda folder: (folder / "unet" / "config.json").write_text("{"), "is not valid JSON"),
        (lambda folder: (folder / "unet" / "config.json").write_text("[]"), "holds list; expected names"),
        (
            lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink(),
            "has no diffusion_pytorch_model.safetensors",
        ),
        (
            lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"x"),
            "cannot be read",
        ),
        (
            lambda folder: change(folder / "unet" / "config.json", layers_per_block=2),
            "does not fit the model",
        ),
    ],
    ids=["no config", "no JSON", "a list", "no weights", "broken weights", "other weights"],
)
def test_broken_folders_are_refused(spoil, message, tmp_path):
    saved(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        DiffusionSampler.from_pretrained(tmp_path)


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    model = ours()
    write_folder(checkpoint_of(model), tmp_path / "old")
    before = (tmp_path / "old" / "unet" / "config.json").read_bytes()
    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    for name in ("old", "new"):
        with pytest.raises(OSError, match="disk full"):
            write_folder(checkpoint_of(model), tmp_path / name, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "unet" / "config.json").read_bytes() == before


def test_nothing_is_overwritten_unasked_and_nothing_foreign_ever(tmp_path):
    checkpoint = checkpoint_of(ours())
    write_folder(checkpoint, tmp_path / "model")
    with pytest.raises(InputError, match="has a model in it: overwrite it"):
        write_folder(checkpoint, tmp_path / "model")
    write_folder(checkpoint, tmp_path / "model", overwrite=True)
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"has other things in it, such as notes\.txt"):
        write_folder(checkpoint, tmp_path / "model", overwrite=True)
    with pytest.raises(InputError, match="is a file"):
        write_folder(checkpoint, tmp_path / "model" / "notes.txt", overwrite=True)
    (tmp_path / "empty").mkdir()
    write_folder(checkpoint, tmp_path / "empty")


def test_the_model_card_tells_the_hub_and_people(tmp_path):
    model = ours(num_classes=3)
    training = {"epoch": 12, "global_step": 34567}
    write_folder(
        checkpoint_of(model, class_names=["cat", "dog", "owl"], training=training),
        tmp_path / "model",
        license="mit",
    )
    card = (tmp_path / "model" / "README.md").read_text()
    yaml = pytest.importorskip("yaml")
    front = yaml.safe_load(card.split("---")[1])
    assert (front["license"], front["library_name"]) == ("mit", "diffusers")
    assert "snowmelt" in front["tags"]
    assert all(fact in card for fact in ("cat, dog, owl", "34,567", "label 3 stands for no class"))


@pytest.mark.parametrize("options", [{}, {"num_classes": 3}], ids=str)
def test_the_code_on_the_model_card_runs(options, tmp_path, monkeypatch):
    write_folder(checkpoint_of(ours(**options)), tmp_path / "model")
    card = (
        (tmp_path / "model" / "README.md").read_text().replace("PATH/OF/THIS/FOLDER", str(tmp_path / "model"))
    )
    monkeypatch.chdir(tmp_path)
    for block in card.split("```python\n")[1:]:
        exec(block.split("```")[0], {})
    assert (tmp_path / "sample.png").exists()


def test_folders_need_no_diffusers(tmp_path):
    script = """
import sys
sys.modules["diffusers"] = None
from snowmelt import Checkpoint, DiffusionSampler, create_ddpm
from snowmelt.models.diffusers.folder import write_folder
model = create_ddpm(image_size=8, in_channels=1, model_channels=8, norm_groups=4)
write_folder(Checkpoint.of(model), sys.argv[1])
print(DiffusionSampler.from_pretrained(sys.argv[1], steps=1).sample(1).shape)
"""
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model")], capture_output=True, text=True, check=True
    )
    assert result.stdout == "torch.Size([1, 1, 8, 8])\n"
