"""`snowmelt import` and `snowmelt export`: there and back, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from typer.testing import CliRunner

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.cli import app
from snowmelt.config import load_config
from snowmelt.generation.configured import build_sampler
from snowmelt.models import EMA, Checkpoint
from snowmelt.models.checkpoint_file import read_contents, write_contents


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A checkpoint with EMA weights that differ from the others, and a pipeline of diffusers."""
    work = tmp_path_factory.mktemp("convert")
    model = create_ddpm(8, 1, 8, (1, 2), num_classes=3, num_timesteps=20, norm_groups=4, layers_per_block=1)
    ema = EMA(model)
    checkpoint = {"model_config": model.config, "model_state_dict": model.state_dict(), "epoch": 3}
    write_contents({**checkpoint, "ema_state_dict": _shifted(ema)}, work / "model.pth")
    write_contents(checkpoint, work / "raw.safetensors")
    write_contents({"model_state_dict": model.state_dict()}, work / "bare.pth")
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4,
    )
    DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=30)).save_pretrained(work / "pipeline")
    return work


def _shifted(ema: EMA) -> dict:
    state = ema.state_dict()
    return {**state, "shadow": {name: value + 1 for name, value in state["shadow"].items()}}


def run(work: Path, *arguments: object):
    paths = [work / str(a) if str(a) in NAMES else a for a in arguments]
    return CliRunner().invoke(app, list(map(str, paths)))


NAMES = {
    "model.pth",
    "raw.safetensors",
    "bare.pth",
    "pipeline",
    "made.safetensors",
    "made.pth",
    "made",
    "none",
}


@pytest.mark.parametrize("out", ["made.safetensors", "made.pth"])
def test_import_writes_a_checkpoint_that_samples(work, out):
    result = run(work, "import", "pipeline", "--out", out)
    assert result.exit_code == 0, result.output
    assert "1 x 8 x 8 images, DiscreteSchedule(betas=0.0001..0.02, T=30), predicts eps" in result.output
    sampler = DiffusionSampler.from_pretrained(work / out, use_ema=False)
    assert (sampler.plan.name, sampler.plan.nfe) == ("ddpm", 30)
    unet = UNet2DModel.from_pretrained(work / "pipeline", subfolder="unet")
    torch.testing.assert_close(sampler.model.network.state_dict(), dict(unet.state_dict()), rtol=0, atol=0)
    assert sampler.sample(1).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("words", [{}, {"steps": 7}, {"steps": 7, "grid": "trailing"}], ids=str)
def test_generate_changes_the_models_own_method_as_the_library_does(work, words):
    run(work, "import", "pipeline", "--out", "made.pth")
    settings = {"mode": "generate", "generation.checkpoint": work / "made.pth", "compute.device": "cpu"}
    settings |= {f"generation.sampling.sampler.{name}": value for name, value in words.items()}
    settings["generation.sampling.use_ema"] = "false"
    config = load_config("-", [f"{name}={value}" for name, value in settings.items()])
    sampler = build_sampler(config, Checkpoint.read(work / "made.pth"))
    assert sampler.method == DiffusionSampler.from_pretrained(work / "pipeline", **words).method
    assert sampler.method.solver == "ddpm"


@pytest.mark.parametrize(
    ("checkpoint", "options", "shift"), [("model.pth", [], 1), ("model.pth", ["--no-ema"], 0)]
)
def test_export_writes_what_diffusers_loads(work, tmp_path, checkpoint, options, shift):
    result = run(
        work, "export", "--to", "diffusers", checkpoint, tmp_path / "made", "--license", "mit", *options
    )
    assert result.exit_code == 0, result.output
    unet = DDPMPipeline.from_pretrained(tmp_path / "made").unet
    raw = read_contents(work / checkpoint)["model_state_dict"]
    expected = {name.removeprefix("network."): value + shift for name, value in raw.items()}
    torch.testing.assert_close(dict(unet.state_dict()), expected, rtol=0, atol=0)
    card = (tmp_path / "made" / "README.md").read_text()
    assert "license: mit" in card
    assert "| epochs trained | 3 |" in card
    assert ("moving average" in card) == bool(shift)


def test_export_says_that_there_is_no_ema(work, tmp_path):
    result = run(work, "export", "raw.safetensors", tmp_path / "made", "--to", "diffusers")
    assert result.exit_code == 0, result.output
    assert "has no EMA weights: falling back to standard model weights" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "none", "--out", "made.pth"], "is not there"),
        (["import", "raw.safetensors", "--out", "made.pth"], "is no state dict of guided-diffusion"),
        (["import", "pipeline", "--out", "made.pth", "--flag", "image_size=8"], "is a folder"),
        (["import", "bare.pth", "--out", "made.pth", "--flag", "image_size"], "expected NAME=VALUE"),
        (["import", "pipeline", "--out", "made"], "--out is a file *.safetensors or *.pth here, got 'made'"),
        (["export", "--to", "diffusers", "none", "made"], "Checkpoint not found"),
        (["export", "--to", "diffusers", "bare.pth", "made"], "weights but not the model's configuration"),
        (["export", "--to", "diffusers", "raw.safetensors", "pipeline"], "has a model in it: overwrite it"),
        (["export", "--to", "k-diffusion", "raw.safetensors", "made"], "'k-diffusion' is not"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_one_message_and_exit_code_2(work, arguments, message):
    result = run(work, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
