"""Diffusers' folders as training scripts, the Hub and broken downloads leave them."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import nn
from typer.testing import CliRunner

from snowmelt import Checkpoint, DiffusionSampler
from snowmelt.cli import app
from snowmelt.errors import InputError

WEIGHTS = "diffusion_pytorch_model"
INDEX = f"{WEIGHTS}.safetensors.index.json"


def network(**options: Any) -> UNet2DModel:
    unet = UNet2DModel(
        **{
            "sample_size": 8,
            "block_out_channels": (8, 16),
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            **options,
        }
    )
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return unet


@pytest.fixture
def unet() -> UNet2DModel:
    torch.manual_seed(0)
    return network()


def saved(folder: Path, unet: UNet2DModel, scheduler: Any = None, **how: Any) -> Path:
    (scheduler or DDIMScheduler()).save_pretrained(folder / "scheduler")
    unet.save_pretrained(folder / "unet", **how)
    return folder


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def loaded(folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    sampler = DiffusionSampler.from_pretrained(folder, **options)
    assert sampler.sample(1, seeds=[1]).isfinite().all() if sampler.plan.nfe < 9 else True
    with sampler.ema.applied() if sampler.ema is not None else nullcontext():
        return weights_of(sampler.model.network)


def run_import(folder: Path, out: Path) -> Any:
    return CliRunner().invoke(app, ["import", str(folder), "--out", str(out)])


# Averages


@pytest.fixture
def averages(unet, tmp_path) -> tuple[Path, dict, dict]:
    """Return a checkpoint of diffusers' training scripts, its raw weights and its averages."""
    config = {"model_cls": UNet2DModel, "model_config": unet.config}
    ema = EMAModel(unet.parameters(), decay=0.99, use_ema_warmup=True, **config)
    average = weights_of(unet)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.3)
    folder = saved(tmp_path / "checkpoint-500", unet)
    ema.save_pretrained(folder / "unet_ema")
    return folder, weights_of(unet), average


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_unet_ema_beside_unet_is_the_average(averages):
    folder, raw, average = averages
    assert same(loaded(folder), average)
    assert same(loaded(folder, use_ema=False), raw)
    assert Checkpoint.read(folder).ema["decay"] == 0.99


def test_unet_ema_survives_an_import(averages, tmp_path):
    folder, raw, average = averages
    result = run_import(folder, tmp_path / "model.safetensors")
    assert result.exit_code == 0, result.output
    assert "with averaged weights" in result.output
    assert same(loaded(tmp_path / "model.safetensors"), average)
    assert same(loaded(tmp_path / "model.safetensors", use_ema=False), raw)


@pytest.mark.parametrize("alone", ["its folder", "the only part"])
def test_unet_ema_alone_is_the_model(averages, alone):
    folder, _, average = averages
    if alone == "the only part":
        shutil.rmtree(folder / "unet")
        assert same(loaded(folder, use_ema=False), average)
    else:
        with pytest.warns(UserWarning, match="no scheduler_config"):
            assert same(loaded(folder / "unet_ema"), average)


# The files of the weights


@pytest.mark.parametrize("how", [{"max_shard_size": "20KB"}, {}], ids=["in pieces", "whole"])
@pytest.mark.parametrize("variant", [None, "fp16", "non_ema"])
def test_weights_are_found_in_every_variant(unet, variant, how, tmp_path):
    expected = weights_of(unet)
    saved(tmp_path, unet, variant=variant, **how)
    names = [path.name for path in (tmp_path / "unet").glob("*.safetensors")]
    assert (len(names) > 1) == bool(how)
    assert same(loaded(tmp_path), expected)


def test_plain_weights_come_before_a_variant(unet, tmp_path):
    saved(tmp_path, network(), variant="fp16")
    unet.save_pretrained(tmp_path / "unet")
    assert same(loaded(tmp_path), weights_of(unet))


def test_weights_in_half_precision_are_kept_in_full(unet, tmp_path):
    saved(tmp_path, unet.half(), variant="fp16")
    checkpoint = Checkpoint.read(tmp_path)
    assert {value.dtype for value in checkpoint.weights.values()} == {torch.float32}
    assert same(loaded(tmp_path), {name: value.float() for name, value in weights_of(unet).items()})


def test_the_choice_between_variants_is_the_readers(unet, tmp_path):
    for variant in ("fp16", "non_ema"):
        saved(tmp_path, unet, variant=variant)
    with pytest.raises(InputError, match="has the variants fp16, non_ema"):
        Checkpoint.read(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "weight_map must name the file"),
        ([], "holds list"),
        ({"weight_map": []}, "weight_map must name the file"),
        ({"weight_map": {}}, "weight_map must name the file"),
        ({"weight_map": {"a": 1}}, "weight_map must name the file"),
        ({"weight_map": {"a": "../../elsewhere.safetensors"}}, "weight_map must name the file"),
        ({"weight_map": {"a": "gone.safetensors"}}, r"lacks gone\.safetensors: download"),
    ],
    ids=str,
)
def test_a_broken_index_is_named(unet, index, message, tmp_path):
    saved(tmp_path, unet, max_shard_size="20KB")
    (tmp_path / "unet" / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match=rf"{INDEX}.*{message}"):
        Checkpoint.read(tmp_path)


def test_a_missing_piece_is_named(unet, tmp_path):
    saved(tmp_path, unet, max_shard_size="20KB")
    first = min((tmp_path / "unet").glob("*.safetensors"))
    first.unlink()
    with pytest.raises(InputError, match=rf"lacks {first.name}"):
        Checkpoint.read(tmp_path)


# "Import succeeded" means that the file can be used


@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler])
@pytest.mark.parametrize("timesteps", [20, 1000])
def test_an_offset_has_no_room_among_all_indices(unet, scheduler, timesteps, tmp_path):
    """Diffusers runs past its table with it; fewer steps are placed as diffusers places them."""
    theirs = scheduler(num_train_timesteps=timesteps, timestep_spacing="leading", steps_offset=1)
    result = run_import(saved(tmp_path / "model", unet, theirs), tmp_path / "model.pth")
    assert result.exit_code == 0, result.output
    sampler = DiffusionSampler.from_pretrained(tmp_path / "model.pth", use_ema=False, steps=10)
    theirs.set_timesteps(10)
    told = [row.level.t * timesteps - 1 for row in sampler.plan.rows]
    assert told == pytest.approx(theirs.timesteps.tolist())


def test_a_network_without_finite_answers_is_not_imported(unet, tmp_path):
    with torch.no_grad():
        unet.conv_out.bias.fill_(torch.nan)
    result = run_import(saved(tmp_path / "model", unet), tmp_path / "model.pth")
    assert (result.exit_code, "NaN" in result.output) == (2, True)
    assert not (tmp_path / "model.pth").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"sample_size": None},
        {"class_embed_type": "timestep"},
        {"time_embedding_type": "fourier"},
        {"out_channels": 5},
    ],
    ids=str,
)
def test_what_cannot_be_used_is_not_imported(options, tmp_path):
    folder = tmp_path / "model"
    DDIMPipeline(network(**options), DDIMScheduler()).save_pretrained(folder)
    result = run_import(folder, tmp_path / "model.pth")
    assert result.exit_code == 2
    assert f"config.json: option {next(iter(options))}" in result.output
    assert not (tmp_path / "model.pth").exists()
